//! Any document as a CoRIM: a refusal, or endorsements that are the same when they are written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use verifier::AwsLc;
use verifier::corim::{Authority, Header, Validity, import, platform_document, realm_document};

const NOW: i64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    let authority = Authority::Importer(&[]);
    let Ok(corim) = import(bytes, NOW, authority, &AwsLc) else { return };
    assert_eq!(corim.signer, None, "nobody's signature is trusted");
    let header = Header { id: "again", creator: "fuzz", validity: Validity::default() };
    if !corim.realms.is_empty() {
        let again = realm_document(header, &corim.realms).expect("what was read can be written");
        let again = import(&again, NOW, authority, &AwsLc).expect("our own document");
        assert_eq!(again.realms, corim.realms);
    }
    if !corim.platforms.is_empty() || !corim.keys.is_empty() {
        let again =
            platform_document(header, &corim.platforms, &corim.keys).expect("what was read can be written");
        let again = import(&again, NOW, authority, &AwsLc).expect("our own document");
        assert_eq!((again.platforms, again.keys), (corim.platforms, corim.keys));
    }
});
