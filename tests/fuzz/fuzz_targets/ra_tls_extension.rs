//! The certificate that a peer of an attested connection presents, and the extension in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra_tls::{Extension, Presented};
use rustls_pki_types::{CertificateDer, UnixTime};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(extension) = Extension::decode(bytes) {
        assert_eq!(Extension::decode(&extension.encode()).unwrap(), extension);
    }
    let _ = Presented::parse(bytes);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
    // Nobody can make a certificate that holds by changing bytes of one.
    assert!(Presented::check(&CertificateDer::from(bytes), now).is_err() || bytes == SEED);
});

/// The seed that holds.
const SEED: &[u8] = include_bytes!("../corpus/ra_tls_extension/certificate");
