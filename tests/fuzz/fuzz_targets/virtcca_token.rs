//! Any bytes as a virtCCA token, and as the claims of either half: a clear refusal, or claims that survive a round trip.

#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;

use evidence::token::{self, SignatureAlgorithm, Signed};
use evidence::virtcca::{self, VirtccaToken};
use libfuzzer_sys::fuzz_target;
use redoubt_fuzz::{cvm, sign_with, virtcca_platform, wrapped};

const ES512: SignatureAlgorithm = SignatureAlgorithm::Es512;

static CVM: LazyLock<Vec<u8>> = LazyLock::new(|| sign_with(&cvm().encode(), ES512));
static PLATFORM: LazyLock<Vec<u8>> = LazyLock::new(|| sign_with(&virtcca_platform().encode(), ES512));

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // The fuzzer cannot keep the lengths around the claims right, so it also gets to the claims directly.
    check(&virtcca::wrap(Some(&sign_with(bytes, ES512)), &CVM));
    check(&virtcca::wrap(Some(&PLATFORM), &sign_with(&wrapped(bytes), ES512)));
    check(&virtcca::wrap(None, &sign_with(&wrapped(bytes), SignatureAlgorithm::Ps256)));
    // And to the COSE_Sign1.
    check(&virtcca::wrap(Some(bytes), &CVM));
    check(&virtcca::wrap(None, bytes));
});

fn check(bytes: &[u8]) {
    let token = match VirtccaToken::decode(bytes) {
        Ok(token) => token,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 1000 && !message.contains(char::is_control), "{message}");
            return;
        }
    };
    let platform = token.platform.as_ref().map(|signed| resign(signed, &signed.claims.encode()));
    let encoded = virtcca::wrap(platform.as_deref(), &resign(&token.cvm, &token.cvm.claims.encode()));
    let again = VirtccaToken::decode(&encoded).expect("what was encoded decodes");
    assert_eq!(again.cvm.claims, token.cvm.claims);
    assert_eq!(again.cvm.signature(), token.cvm.signature());
    assert_eq!(again.platform.map(|signed| signed.claims), token.platform.map(|signed| signed.claims));
}

fn resign<C>(signed: &Signed<C>, claims: &[u8]) -> Vec<u8> {
    let Ok(token) = token::sign::<Infallible>(claims, signed.algorithm, |_| Ok(signed.signature().to_vec()));
    token
}
