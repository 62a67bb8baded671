//! Quotes with the values that they are about.

use evidence::bank::Bank;
use evidence::tpm::{Attested, ClockInfo, PcrSelection, PcrSet, PcrValues};

use crate::command::Tpm;
use crate::{AttestationKey, Error};

/// How often it is tried to read and quote the same values: Linux measures whenever a program starts.
const TRIES: u32 = 10;

/// A quote, and what it is about.
#[derive(Clone, Debug)]
pub struct Quoted {
    /// `TPMS_ATTEST`, the bytes that are signed.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// The values of the registers that the quote has a digest of.
    pub values: PcrValues,
    /// The TPM's time.
    pub clock: ClockInfo,
}

/// Quotes registers of one bank together with `qualifying` data.
///
/// A quote has a digest of the registers only, so their values are read beside it, and again if they were others.
///
/// # Errors
/// [`Error::Registers`] if the TPM does not have them, [`Error::Unsteady`] if they do not keep still.
pub fn quote(
    tpm: &mut Tpm,
    key: &AttestationKey,
    bank: Bank,
    pcrs: PcrSet,
    qualifying: &[u8],
) -> Result<Quoted, Error> {
    let selection = [PcrSelection { bank, pcrs }];
    for _ in 0..TRIES {
        let Some(values) = tpm.registers(bank, pcrs)? else { continue };
        let raw = tpm.sign_quote(key.handle, qualifying, &selection)?;
        let Attested::Quote { selection: quoted, pcr_digest } = &raw.decoded.attested else {
            return Err(Error::Wrong { command: "TPM2_Quote", problem: "it is not a quote" });
        };
        if quoted[..] != selection {
            return Err(Error::Registers { bank, wanted: pcrs });
        }
        if values.digest(key.hash).as_bytes() == pcr_digest {
            return Ok(Quoted {
                clock: raw.decoded.clock,
                attest: raw.attest,
                signature: raw.signature.encode(),
                values,
            });
        }
    }
    Err(Error::Unsteady { tries: TRIES })
}
