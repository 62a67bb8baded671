//! Any bytes as a CCA token, and as the claims of either half: a clear refusal, or claims that survive a round trip.

#![no_main]

use std::sync::LazyLock;

use evidence::cca::{self, CcaToken, PlatformProfile, RealmProfile, Wrapper};
use evidence::hash::HashAlgorithm;
use libfuzzer_sys::fuzz_target;
use redoubt_fuzz::{platform, realm, sign};

static PLATFORM: LazyLock<Vec<u8>> = LazyLock::new(|| sign(&platform(PlatformProfile::Cca2023).encode()));
static REALM: LazyLock<Vec<u8>> =
    LazyLock::new(|| sign(&realm(RealmProfile::Realm2023, HashAlgorithm::Sha256).encode()));

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // The fuzzer cannot keep the lengths around the claims right, so it also gets to the claims directly.
    check(&cca::wrap(Wrapper::Tag399, &sign(bytes), &REALM));
    check(&cca::wrap(Wrapper::Tag907, &PLATFORM, &sign(bytes)));
    // And to the COSE_Sign1.
    check(&cca::wrap(Wrapper::Tag399, bytes, &REALM));
});

fn check(bytes: &[u8]) {
    let token = match CcaToken::decode(bytes) {
        Ok(token) => token,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 1000 && !message.contains(char::is_control), "{message}");
            return;
        }
    };
    let resign = |claims: &[u8], algorithm, signature: &[u8]| {
        let Ok(token) = cca::sign::<std::convert::Infallible>(claims, algorithm, |_| Ok(signature.to_vec()));
        token
    };
    let encoded = cca::wrap(
        token.wrapper,
        &resign(&token.platform.claims.encode(), token.platform.algorithm, token.platform.signature()),
        &resign(&token.realm.claims.encode(), token.realm.algorithm, token.realm.signature()),
    );
    let again = CcaToken::decode(&encoded).expect("what was encoded decodes");
    assert_eq!(again.platform.claims, token.platform.claims);
    assert_eq!(again.realm.claims, token.realm.claims);
    assert_eq!(again.realm.signature(), token.realm.signature());
}
