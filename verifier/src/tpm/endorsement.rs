//! Endorsement keys: what says that a TPM is a manufacturer's.

use std::sync::Arc;

use evidence::tpm::{Attributes, Public, Scheme, Symmetric};

use super::AttestationKey;
use crate::chain::{Device, Purpose, TrustBundle};
use crate::refusal::{Code, Refusal, Step};

/// What an endorsement key must be: a TPM's own, and good for nothing but to receive secrets that the TPM keeps.
const ENDORSEMENT: Attributes = Attributes::RESTRICTED
    .and(Attributes::DECRYPT)
    .and(Attributes::FIXED_TPM)
    .and(Attributes::FIXED_PARENT)
    .and(Attributes::SENSITIVE_DATA_ORIGIN);

/// Validates the certificate of an endorsement key (in DER, or in PEM with sub CAs behind it), and that `public` is that key.
///
/// # Errors
/// [`Refusal`] of the step `certificate_chain` or `attestation_key`.
pub fn endorsement_key(
    public: &Public,
    certificate: &[u8],
    bundle: &TrustBundle,
    now: i64,
) -> Result<Arc<Device>, Refusal> {
    let device = bundle
        .certified(certificate, Purpose::Endorsement, now)
        .map_err(|error| Refusal::new(Step::CertificateChain, error.code(), error.to_string()))?;
    let refuse = |code, detail: &str| Err(Refusal::new(Step::AttestationKey, code, detail));
    if !AttestationKey::same(public, &device.key) {
        return refuse(
            Code::EndorsementKeyMismatch,
            "the endorsement key is not the one that its certificate is for: send the certificate of this key",
        );
    }
    if !public.attributes.has(ENDORSEMENT) || public.attributes.has(Attributes::SIGN) {
        return refuse(
            Code::TpmKeyUnsuitable,
            "the endorsement key must be restricted, decrypt and not sign, be fixed to its TPM and parent, and be made by \
             the TPM: make it by the manufacturer's template (tpm2_createek)",
        );
    }
    if public.symmetric == Symmetric::Null || public.scheme != Scheme::Null {
        return refuse(
            Code::TpmKeyUnsuitable,
            "the endorsement key has no cipher, or a scheme: make it by the manufacturer's template (tpm2_createek)",
        );
    }
    Ok(device)
}
