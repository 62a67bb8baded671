//! Step `attestation_key`: a key that is known to be in a TPM says that another one is in the same TPM (`TPM2_Certify`).

use evidence::tpm::{Attest, Attested, Public, Signature};
use subtle::ConstantTimeEq as _;

use super::AttestationKey;
use crate::refusal::{Code, Refusal, Step};

/// Takes the public area of a key that `initial` has certified: `attest` is a `TPMS_ATTEST` of the type certify, `signature`
/// a `TPMT_SIGNATURE`, `qualifying` what the TPM must have been asked to put into it.
///
/// # Errors
/// [`Refusal`] of the step `decode`, `nonce` or `attestation_key`; also if the key is not fit to attest.
pub fn certified_key(
    initial: &AttestationKey,
    public: &Public,
    attest: &[u8],
    signature: &[u8],
    qualifying: &[u8],
) -> Result<AttestationKey, Refusal> {
    let malformed = |error: evidence::tpm::TpmError| {
        Refusal::new(Step::Decode, Code::EvidenceMalformed, error.to_string())
    };
    let refuse =
        |detail: &str| Err(Refusal::new(Step::AttestationKey, Code::AttestationKeyUncertified, detail));
    let certification = Attest::decode(attest).map_err(malformed)?;
    let signature = Signature::decode(signature).map_err(malformed)?;
    if initial.verify(attest, &signature).is_err() {
        return refuse(
            "the initial attestation key has not signed this: it was altered, or another key certified the attestation key",
        );
    }
    let Attested::Certify { name, .. } = &certification.attested else {
        return refuse("it is a quote: certify the attestation key with the initial one (TPM2_Certify)");
    };
    // Lengths are public; what they have is compared without telling where it differs.
    if !bool::from(certification.extra_data.ct_eq(qualifying)) {
        return Err(Refusal::new(
            Step::Nonce,
            Code::NonceMismatch,
            "the nonce in the certification is another one: take a new nonce, and certify the key for it",
        ));
    }
    if *name != public.name().as_bytes() {
        return refuse("it certifies another key than the attestation key beside it");
    }
    AttestationKey::from_public(public)
}
