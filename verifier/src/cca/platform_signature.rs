//! Step `platform_signature`: the platform token is signed by the key registered for this very platform.

use evidence::cca::{PlatformClaims, Signed};

use crate::anchor::{TrustAnchor, TrustAnchors};
use crate::denied;
use crate::refusal::{Code, Refusal, Step};
use crate::signature::SignatureVerifier;

/// Platform claims whose signature was verified, and the anchor that vouches for them.
pub struct TrustedPlatform<'a> {
    pub claims: &'a PlatformClaims,
    pub anchor: TrustAnchor,
}

/// Finds the anchor by implementation id and instance id and verifies the signature with it.
pub fn verify<'a>(
    platform: &'a Signed<PlatformClaims>,
    anchors: &dyn TrustAnchors,
    signatures: &dyn SignatureVerifier,
) -> Result<TrustedPlatform<'a>, Refusal> {
    let refuse = |code, detail: String| Refusal::new(Step::PlatformSignature, code, detail);
    let claims = &platform.claims;
    let anchor = anchors
        .platform_key(&claims.implementation_id, &claims.instance_id)
        .map_err(|error| Refusal::unavailable(Step::PlatformSignature, &error))?
        .ok_or_else(|| {
            let (implementation, instance) =
                (hex::encode(claims.implementation_id), hex::encode(claims.instance_id));
            refuse(
                Code::TrustAnchorUnknown,
                format!("no trust anchor is registered for implementation id {implementation}, instance id {instance}"),
            )
        })?;
    denied::check(&anchor.key).map_err(|denied| {
        refuse(Code::TrustAnchorDenied, format!("trust anchor {}: {denied}", anchor.name))
    })?;
    signatures
        .verify(platform.algorithm, anchor.key.sec1_point(), platform.to_be_signed(), platform.signature())
        .map_err(|_| {
            refuse(
                Code::PlatformSignatureInvalid,
                format!(
                    "the platform token does not verify with trust anchor {} ({} key)",
                    anchor.name,
                    anchor.key.curve()
                ),
            )
        })?;
    Ok(TrustedPlatform { claims, anchor })
}
