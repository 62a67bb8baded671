//! Step `certificate_chain`: the device certificate leads to a root that the operator has installed.

use std::sync::Arc;

use crate::Context;
use crate::chain::{Device, TrustBundle};
use crate::refusal::{Code, Refusal, Step, StoreError};

/// A device whose certificates were validated, and the bundle that did it.
pub struct TrustedDevice {
    pub device: Arc<Device>,
    pub bundle: Arc<TrustBundle>,
}

/// Validates the certificates, and revocation as far as every policy demands it.
pub fn verify(
    certificates: &[u8],
    bundle: Result<Arc<TrustBundle>, StoreError>,
    context: &Context<'_>,
) -> Result<TrustedDevice, Refusal> {
    let step = Step::CertificateChain;
    let bundle = bundle.map_err(|error| Refusal::unavailable(step, &error))?;
    let device = bundle
        .device(certificates, context.now)
        .map_err(|error| Refusal::new(step, error.code(), error.to_string()))?;
    let demanding = context.policies.iter().find(|policy| policy.rules().virtcca.require_crl);
    if let Some(policy) = demanding
        && !device.revocation_checked
    {
        let id = policy.id();
        let detail = format!(
            "policy {id} demands certificate revocation lists, and the trust bundle has none for an issuer of the \
             device certificate: install the lists of {:?} and of its root",
            device.issuer
        );
        return Err(Refusal::new(step, Code::RevocationUnknown, detail));
    }
    Ok(TrustedDevice { device, bundle })
}
