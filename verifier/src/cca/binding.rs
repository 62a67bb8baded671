//! Step `binding`: the platform token vouches for the Realm attestation key (RAK).

use evidence::cca::{RealmClaims, RealmKey};
use subtle::ConstantTimeEq;

use super::platform_signature::TrustedPlatform;
use crate::refusal::{Code, Refusal, Step};

/// A Realm attestation key that a trusted platform vouches for.
pub struct BoundKey<'a>(pub &'a RealmKey);

/// Compares the platform nonce with the hash of the key exactly as the Realm token encodes it.
pub fn verify<'a>(platform: &TrustedPlatform<'_>, realm: &'a RealmClaims) -> Result<BoundKey<'a>, Refusal> {
    let expected = realm.rak_hash.digest(realm.rak.claim_bytes());
    if !bool::from(expected.as_bytes().ct_eq(platform.claims.nonce.as_slice())) {
        return Err(Refusal::new(
            Step::Binding,
            Code::KeyBindingMismatch,
            "the platform token's nonce is not the hash of the Realm attestation key: \
             the two halves of the token do not belong together",
        ));
    }
    Ok(BoundKey(&realm.rak))
}
