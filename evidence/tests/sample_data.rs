//! Reads tokens that other projects published. Not part of the default run: the data is not ours to copy.
//!
//! `REDOUBT_VECTORS=<folder> cargo test -p evidence --features sample-data`

#![expect(clippy::unwrap_used, reason = "a test; its helpers stand outside the test function")]

use std::path::Path;

use evidence::cca::{CcaToken, PlatformProfile, RealmProfile, Wrapper};
use evidence::hash::{Digest, HashAlgorithm};
use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};
use serde_json::Value;

#[test]
fn veraison_cca_token_01_decodes_and_its_signatures_and_binding_verify() {
    let folder = std::env::var("REDOUBT_VECTORS").expect("set REDOUBT_VECTORS to the folder of samples");
    let folder = Path::new(&folder);
    let token = std::fs::read(folder.join("cca-token-01.cbor")).unwrap();
    let token = CcaToken::decode(&token).unwrap();

    assert_eq!(token.wrapper, Wrapper::Tag399);
    assert_eq!(token.platform.claims.profile, PlatformProfile::Legacy);
    assert_eq!(token.realm.claims.profile, RealmProfile::Legacy);
    assert_eq!(token.realm.claims.rim, Digest::zero(HashAlgorithm::Sha256));
    assert_eq!(token.platform.claims.components.len(), 4);
    assert!(token.platform.claims.lifecycle.is_secured());

    let cpak: Value = serde_json::from_slice(&std::fs::read(folder.join("cpak.json")).unwrap()).unwrap();
    verify(&point(&cpak), token.platform.to_be_signed(), token.platform.signature());
    let rak = &token.realm.claims.rak;
    verify(rak.sec1_point(), token.realm.to_be_signed(), token.realm.signature());
    let binding = token.realm.claims.rak_hash.digest(rak.claim_bytes());
    assert_eq!(binding.as_bytes(), token.platform.claims.nonce);
}

fn verify(point: &[u8], message: &[u8], signature: &[u8]) {
    let key = VerifyingKey::from_sec1_bytes(point).unwrap();
    key.verify(message, &Signature::from_slice(signature).unwrap()).unwrap();
}

fn point(jwk: &Value) -> Vec<u8> {
    use base64::Engine;
    let coordinate = |name: &str| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap()
    };
    [vec![4], coordinate("x"), coordinate("y")].concat()
}
