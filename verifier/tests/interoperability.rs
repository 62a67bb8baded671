//! What others say about our signatures: openssl verifies the raw form of the COSE signatures that we make and check.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::path::Path;
use std::process::Command;

use evidence::cca::CcaToken;
use p384::ecdsa::Signature;
use p384::pkcs8::{EncodePublicKey as _, LineEnding};
use verifier::testing::Mint;

/// What `openssl dgst -verify` says.
fn openssl(directory: &Path, public_key: &str, signed: &[u8], signature: &[u8]) -> bool {
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let output = Command::new("openssl")
        .args(["dgst", "-sha384", "-verify"])
        .arg(file("key.pem", public_key.as_bytes()))
        .arg("-signature")
        .arg(file("signature.der", signature))
        .arg(file("signed.bin", signed))
        .output()
        .expect("openssl is installed by `cargo xtask test`");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Verified OK") || said.contains("Verification failure"), "{said}");
    output.status.success()
}

fn der(raw: &[u8]) -> Vec<u8> {
    Signature::from_slice(raw).unwrap().to_der().as_bytes().to_vec()
}

#[test]
fn openssl_verifies_both_signatures_of_a_cca_token() {
    let directory = tempfile::tempdir().unwrap();
    let mint = Mint::new([0x5a; 64]);
    let token = CcaToken::decode(&mint.token()).unwrap();
    let realm_key =
        p384::PublicKey::from(*mint.rak.verifying_key()).to_public_key_pem(LineEnding::LF).unwrap();

    let platform = (token.platform.to_be_signed(), der(token.platform.signature()));
    assert!(openssl(directory.path(), &mint.public_key_pem(), platform.0, &platform.1));
    assert!(openssl(directory.path(), &realm_key, token.realm.to_be_signed(), &der(token.realm.signature())));

    // Each signature is of its own bytes and of its own key.
    assert!(!openssl(directory.path(), &realm_key, platform.0, &platform.1));
    assert!(!openssl(directory.path(), &mint.public_key_pem(), token.realm.to_be_signed(), &platform.1));
}
