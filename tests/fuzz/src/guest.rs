//! A guest whose evidence the attestation service accepts, and what an operator registers for it.

use std::convert::Infallible;

use attestation_service::harness::{CHALLENGE, NONCE};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evidence::cca::{self, PlatformProfile, RealmKey, RealmProfile, SignatureAlgorithm, Wrapper};
use evidence::envelope::Evidence;
use evidence::hash::HashAlgorithm;
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use p384::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

use crate::{platform, realm};

fn key(number: u8) -> SigningKey {
    let mut scalar = [0; 48];
    scalar[47] = number;
    SigningKey::from_slice(&scalar).expect("a small number is a scalar")
}

/// The key that the guest fetches with, as the key-broker protocol has it. Nobody has its private half.
fn tee_key() -> Value {
    json!({
        "alg": "ECDH-ES+A256KW", "crv": "P-256", "kty": "EC",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

/// A token for what `attested` begins with.
fn token(attested: &[u8]) -> Vec<u8> {
    let (cpak, rak) = (key(1), key(2));
    let mut realm = realm(RealmProfile::Realm2023, HashAlgorithm::Sha256);
    realm.challenge = [0; 64];
    realm.challenge[..attested.len()].copy_from_slice(attested);
    realm.rak = RealmKey::cose_p384(rak.verifying_key().to_sec1_point(false).as_bytes()).expect("a point");
    let mut platform = platform(PlatformProfile::Cca2023);
    platform.nonce = HashAlgorithm::Sha256.digest(realm.rak.claim_bytes()).as_bytes().to_vec();
    let sign = |claims: &[u8], key: &SigningKey| {
        let Ok(signed) = cca::sign::<Infallible>(claims, SignatureAlgorithm::Es384, |tbs| {
            let signature: Signature = key.sign(tbs);
            Ok(signature.to_bytes().to_vec())
        });
        signed
    };
    cca::wrap(Wrapper::Tag399, &sign(&platform.encode(), &cpak), &sign(&realm.encode(), &rak))
}

/// What an operator registers: path and document.
pub fn registration() -> [(&'static str, Value); 5] {
    let platform = platform(PlatformProfile::Cca2023);
    let rim = realm(RealmProfile::Realm2023, HashAlgorithm::Sha256).rim;
    let key = p384::PublicKey::from(*key(1).verifying_key());
    [
        (
            "/trust-anchors",
            json!({
                "name": "rack",
                "implementation_id": text(&platform.implementation_id),
                "instance_id": text(&platform.instance_id),
                "public_key": key.to_public_key_pem(LineEnding::LF).expect("a key has a PEM form"),
            }),
        ),
        ("/references", json!({ "name": "guest", "rim": rim })),
        ("/policies", json!({ "id": "a.rego", "rego": "package attestation\noutput := {\"allow\": true}" })),
        ("/resource-policies", json!({ "name": "acme/own.rego", "rego": "package acme.own\nallow := true" })),
        (
            "/resources",
            json!({ "name": "acme/disk/key", "content": "c2VjcmV0", "policies": ["oeas/affirming.rego", "acme/own.rego"] }),
        ),
    ]
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A body of `POST /attestation` that is accepted.
pub fn attestation() -> String {
    let evidence = URL_SAFE_NO_PAD.encode(Evidence::cca(token(&CHALLENGE)).to_json());
    json!({ "challenge": URL_SAFE_NO_PAD.encode(CHALLENGE), "evidence": evidence, "policy_id": ["a.rego"] })
        .to_string()
}

/// A body of `POST /kbs/v0/attest` that is accepted.
pub fn kbs_attestation() -> String {
    let nonce = STANDARD.encode(NONCE);
    let signed = json!({ "additional-evidence": "", "nonce": nonce, "tee-pubkey": tee_key() }).to_string();
    let attested = HashAlgorithm::Sha384.digest(signed.as_bytes());
    json!({
        "runtime-data": { "nonce": nonce, "tee-pubkey": tee_key() },
        "tee-evidence": { "primary_evidence": { "token": token(attested.as_bytes()) }, "additional_evidence": "" },
    })
    .to_string()
}
