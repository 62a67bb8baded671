//! Credentials, by which a verifier learns that two keys are in one TPM.

use evidence::tpm::{EncryptedSecret, IdObject};
use zeroize::Zeroizing;

use crate::command::Tpm;
use crate::{AttestationKey, Auth, EndorsementKey, Error};

/// Opens a credential that was made for these two keys.
///
/// # Errors
/// [`Error::Refused`] if it was made for others.
pub fn activate(
    tpm: &mut Tpm,
    attestation: &AttestationKey,
    endorsement: &EndorsementKey,
    hierarchy: &Auth,
    credential: &IdObject,
    secret: &EncryptedSecret,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let session = tpm.endorsement_policy(endorsement.public().name_algorithm, hierarchy)?;
    let keys = (endorsement.0.handle, session);
    let opened = tpm.open_credential(attestation.handle, keys, credential, secret);
    tpm.then_flush(session, opened)
}
