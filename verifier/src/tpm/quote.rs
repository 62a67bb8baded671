//! Step `quote`: the key has signed these registers, for this nonce.

use evidence::bank::Bank;
use evidence::tpm::{Attest, Attested, ClockInfo, PcrSelection, PcrValues, Signature};
use subtle::ConstantTimeEq as _;

use super::AttestationKey;
use crate::refusal::{Code, Refusal, Step};

/// What a verified quote says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The values of the registers, all of which the quote is about.
    pub pcrs: PcrValues,
    /// The TPM's time.
    pub clock: ClockInfo,
    /// The version of the TPM's firmware.
    pub firmware_version: u64,
}

/// Verifies a quote: `attest` is a `TPMS_ATTEST`, `signature` a `TPMT_SIGNATURE`, `reported` the values beside it.
/// `qualifying` is what the quote must have been asked to contain.
///
/// # Errors
/// [`Refusal`] of the step `decode`, `quote` or `nonce`.
pub fn verify_quote(
    key: &AttestationKey,
    attest: &[u8],
    signature: &[u8],
    qualifying: &[u8],
    reported: PcrValues,
) -> Result<Quote, Refusal> {
    let malformed = |error: evidence::tpm::TpmError| {
        Refusal::new(Step::Decode, Code::EvidenceMalformed, error.to_string())
    };
    let quote = Attest::decode(attest).map_err(malformed)?;
    let signature = Signature::decode(signature).map_err(malformed)?;
    key.verify(attest, &signature).map_err(|_| {
        refuse(
            Code::QuoteSignatureInvalid,
            "the signature of the quote does not verify with the attestation key: the quote was altered, or another key \
             made it",
        )
    })?;
    let Attested::Quote { selection, pcr_digest } = &quote.attested else {
        return Err(Refusal::new(
            Step::Decode,
            Code::EvidenceMalformed,
            "the TPMS_ATTEST certifies a key and is no quote",
        ));
    };
    // Lengths are public; what they have is compared without telling where it differs.
    if !bool::from(quote.extra_data.ct_eq(qualifying)) {
        return Err(Refusal::new(
            Step::Nonce,
            Code::NonceMismatch,
            "Nonce in Quote does not match provided nonce: take a new nonce and a new quote for it",
        ));
    }
    check_selection(selection, &reported)?;
    let digest = reported.digest(signature.hash);
    if !bool::from(digest.as_bytes().ct_eq(pcr_digest)) {
        return Err(refuse(
            Code::PcrDigestMismatch,
            "PCR digest mismatch: the reported values of the registers are not those that the TPM has signed",
        ));
    }
    Ok(Quote { pcrs: reported, clock: quote.clock, firmware_version: quote.firmware_version })
}

/// The digest is over values only: that they are of these registers, in this bank, only the selection says.
fn check_selection(selection: &[PcrSelection], reported: &PcrValues) -> Result<(), Refusal> {
    let quoted: Vec<&PcrSelection> =
        selection.iter().filter(|selection| !selection.pcrs.is_empty()).collect();
    let [quoted] = quoted[..] else {
        return Err(refuse(
            Code::PcrSelectionMismatch,
            "the quote is not about registers of exactly one bank: quote one bank",
        ));
    };
    if reported.bank() == Bank::Sha1 {
        return Err(refuse(
            Code::PcrSelectionMismatch,
            "the quote is about the bank sha1, which proves nothing: quote sha256",
        ));
    }
    if quoted.bank != reported.bank() || quoted.pcrs != reported.pcrs() {
        return Err(refuse(
            Code::PcrSelectionMismatch,
            format!(
                "the quote is about {}:{}, and the values of {}:{} are reported: report what was quoted",
                quoted.bank,
                quoted.pcrs,
                reported.bank(),
                reported.pcrs()
            ),
        ));
    }
    Ok(())
}

fn refuse(code: Code, detail: impl Into<String>) -> Refusal {
    Refusal::new(Step::Quote, code, detail)
}
