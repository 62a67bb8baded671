//! Step `realm_signature`: the Realm token is signed by the key that the platform vouches for.

use evidence::cca::{RealmClaims, Signed};

use super::binding::BoundKey;
use crate::denied;
use crate::guest::AttestedGuest;
use crate::refusal::{Code, Refusal, Step};
use crate::signature::SignatureVerifier;

/// Realm claims whose signature was verified with a bound key.
pub struct TrustedRealm<'a>(pub &'a RealmClaims);

impl TrustedRealm<'_> {
    /// What is asked of every guest.
    pub const fn guest(&self) -> AttestedGuest<'_> {
        let claims = self.0;
        AttestedGuest {
            challenge: &claims.challenge,
            hash: claims.hash,
            rim: claims.rim,
            rpv: &claims.rpv,
            rems: &claims.rems,
        }
    }
}

/// Verifies the Realm token with the attested key.
pub fn verify<'a>(
    realm: &'a Signed<RealmClaims>,
    key: &BoundKey<'_>,
    signatures: &dyn SignatureVerifier,
) -> Result<TrustedRealm<'a>, Refusal> {
    let point = key.0.sec1_point();
    denied::check_point(point).map_err(|denied| {
        Refusal::new(
            Step::RealmSignature,
            Code::TrustAnchorDenied,
            format!("Realm attestation key: {denied}"),
        )
    })?;
    signatures.verify(realm.algorithm, point, realm.to_be_signed(), realm.signature()).map_err(|_| {
        Refusal::new(
            Step::RealmSignature,
            Code::RealmSignatureInvalid,
            "the Realm token does not verify with the Realm attestation key that it carries",
        )
    })?;
    Ok(TrustedRealm(&realm.claims))
}
