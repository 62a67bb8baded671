//! What one key of a TPM says of another (`TPM2_Certify`).

use evidence::tpm::Attested;

use crate::command::Tpm;
use crate::{AttestationKey, Error, Handle};

/// The statement that a key is in the same TPM as the one that signs it.
#[derive(Clone, Debug)]
pub struct Certification {
    /// `TPMS_ATTEST`, the bytes that are signed.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

/// Has the key at the persistent handle `initial` certify `key`, together with `qualifying` data.
///
/// # Errors
/// [`Error::NoInitialKey`] if there is no key.
pub fn certify(
    tpm: &mut Tpm,
    initial: Handle,
    key: &AttestationKey,
    qualifying: &[u8],
) -> Result<Certification, Error> {
    if tpm.read_public(initial)?.is_none() {
        return Err(Error::NoInitialKey { handle: initial });
    }
    let statement = tpm.sign_certification(key.handle, initial, qualifying)?;
    match &statement.decoded.attested {
        Attested::Certify { name, .. } if *name == key.public.name().as_bytes() => {
            Ok(Certification { attest: statement.attest, signature: statement.signature.encode() })
        }
        _ => Err(Error::Wrong { command: "TPM2_Certify", problem: "it is not about the attestation key" }),
    }
}
