//! Step `platform_signature`: the Platform Token is signed by the device.

use aws_lc_rs::digest::{Context, SHA256};
use evidence::token::Signed;
use evidence::virtcca::{CvmKey, PlatformClaims};

use super::binding::Bound;
use super::certificate_chain::TrustedDevice;
use super::platform::DecodedPlatform;
use crate::chain::DeviceKey;
use crate::refusal::{Code, Refusal, Step};
use crate::signature::SignatureVerifier;

/// A key that signs CVM tokens and that a trusted device vouches for.
pub struct VouchedKey<'a> {
    pub key: &'a CvmKey,
    /// What the device says; `None` if it is the device certificate itself that names the key.
    pub platform: Option<&'a DecodedPlatform>,
}

/// Verifies the Platform Token, if the key is bound by one. One that was verified before is not verified again: it has no
/// freshness of its own, and a platform shows the same one until it starts anew.
pub fn verify<'a>(
    bound: &Bound<'a>,
    trusted: &TrustedDevice,
    signatures: &dyn SignatureVerifier,
) -> Result<VouchedKey<'a>, Refusal> {
    let (key, token) = match *bound {
        Bound::DeviceCertificate(key) => return Ok(VouchedKey { key, platform: None }),
        Bound::Platform(key, token) => (key, token),
    };
    let platform = &token.decoded.signed;
    let device_key = match &trusted.device.key {
        DeviceKey::Ec { point, .. } => point,
        DeviceKey::Rsa { spki } => spki,
    };
    let fact = fact(device_key, platform);
    if !trusted.bundle.remembers(&fact) {
        signatures
            .verify(platform.algorithm, device_key, platform.to_be_signed(), platform.signature())
            .map_err(|_| {
                let detail = format!(
                    "the Platform Token ({}) does not verify with the key of the device certificate of {:?}",
                    platform.algorithm, trusted.device.subject
                );
                Refusal::new(Step::PlatformSignature, Code::PlatformSignatureInvalid, detail)
            })?;
        trusted.bundle.remember(fact);
    }
    token.keep(&trusted.bundle);
    Ok(VouchedKey { key, platform: Some(&token.decoded) })
}

/// Everything that the signature's validity depends on; the algorithm is among the signed bytes.
fn fact(key: &[u8], platform: &Signed<PlatformClaims>) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in [key, platform.to_be_signed(), platform.signature()] {
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    let mut fact = [0; 32];
    fact.copy_from_slice(hash.finish().as_ref());
    fact
}
