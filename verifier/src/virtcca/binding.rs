//! Step `binding`: something that is signed by the device, or certified, names the key that signs the CVM token.
//!
//! It stands before the platform signature so that a swapped key can be told from a broken signature.

use evidence::virtcca::CvmKey;
use subtle::ConstantTimeEq as _;

use super::certificate_chain::TrustedDevice;
use super::decode::{PlatformToken, Token};
use crate::chain::DeviceKey;
use crate::policy::AppraisalPolicy;
use crate::refusal::{Code, Refusal, Step};
use crate::signature;

/// A key that is named by what stands for the platform.
pub enum Bound<'a> {
    /// By a Platform Token, whose signature was not looked at yet.
    Platform(&'a CvmKey, &'a PlatformToken),
    /// By the device certificate, which was validated. Policies allow that.
    DeviceCertificate(&'a CvmKey),
}

/// Looks for the key in the Platform Token; without one, if every policy allows that, in the device certificate.
pub fn verify<'a>(
    token: &'a Token,
    device: &TrustedDevice,
    policies: &[AppraisalPolicy],
) -> Result<Bound<'a>, Refusal> {
    let claims = &token.cvm.claims;
    let key = &claims.key;
    let Some(platform) = &token.platform else {
        allow_legacy(policies)?;
        if !is_same(&device.device.key, key) {
            let detail = "the key of the CVM token is not the device certificate's, and there is no Platform Token that \
                          would name it: token and certificate do not belong together";
            return Err(mismatch(key, detail));
        }
        return Ok(Bound::DeviceCertificate(key));
    };
    let expected = claims.key_hash.digest(key.claim_bytes());
    if !bool::from(expected.as_bytes().ct_eq(platform.decoded.signed.claims.challenge.as_bytes())) {
        let detail = "the Platform Token's challenge is not the hash of the CVM token's key: the two halves of the \
                      token do not belong together";
        return Err(mismatch(key, detail));
    }
    Ok(Bound::Platform(key, platform))
}

fn allow_legacy(policies: &[AppraisalPolicy]) -> Result<(), Refusal> {
    let objecting =
        policies.iter().find(|policy| !policy.rules().virtcca.allow_legacy).map(AppraisalPolicy::id);
    // An empty list must not read as "every policy allows".
    if policies.is_empty() || objecting.is_some() {
        let detail = format!(
            "the evidence has no Platform Token, and policy {} does not allow that: if this device has none, set \
             rules.virtcca.allow_legacy",
            objecting.unwrap_or("(none)")
        );
        return Err(Refusal::new(Step::Binding, Code::PlatformTokenMissing, detail));
    }
    Ok(())
}

fn is_same(device: &DeviceKey, key: &CvmKey) -> bool {
    match (device, key) {
        (DeviceKey::Ec { point, .. }, CvmKey::P521(bytes)) => bool::from(point.ct_eq(bytes)),
        (DeviceKey::Rsa { spki }, CvmKey::Rsa4096(bytes)) => bool::from(spki.ct_eq(bytes)),
        _ => false,
    }
}

/// A key that is none says more than a key that is another.
fn mismatch(key: &CvmKey, detail: &str) -> Refusal {
    if signature::is_key(key.algorithm(), key.claim_bytes()) {
        return Refusal::new(Step::Binding, Code::KeyBindingMismatch, detail);
    }
    let detail = format!("the CVM token carries a damaged {} key", key.kind());
    Refusal::new(Step::Binding, Code::CvmKeyInvalid, detail)
}
