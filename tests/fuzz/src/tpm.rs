//! Everything that the agent asks of a TPM, one after the other.

use evidence::bank::Bank;
use evidence::tpm::{EncryptedSecret, IdObject, PcrSet};
use tpm::{
    AkAlgorithm, Auth, EkKind, EndorsementKey, Error, Handle, Tpm, Transport, activate, certify,
    endorsement_certificate, ensure_attestation_key, quote,
};

/// Asks everything. Each part goes on without what another could not get.
///
/// # Panics
/// If there are not the registers 0 to 10.
pub fn ask(transport: Box<dyn Transport>, credential: &IdObject, secret: &EncryptedSecret) -> Vec<Error> {
    let mut tpm = Tpm::new(transport);
    let none = Auth::default();
    let mut errors = Vec::new();
    errors.extend(endorsement_certificate(&mut tpm, EkKind::Rsa, &none).err());
    let handle = Handle(0x8101_0020);
    let attestation = ensure_attestation_key(&mut tpm, handle, AkAlgorithm::EcdsaP256, &none, &none);
    let endorsement = EndorsementKey::create(&mut tpm, EkKind::Ecc, &none, &none);
    if let (Ok(attestation), Ok(endorsement)) = (&attestation, &endorsement) {
        errors.extend(activate(&mut tpm, attestation, endorsement, &none, credential, secret).err());
    }
    if let Ok(attestation) = &attestation {
        let pcrs = PcrSet::new(0..=10).expect("there are such registers");
        match quote(&mut tpm, attestation, Bank::Sha256, pcrs, &[0xab; 32]) {
            Ok(quoted) => assert_eq!(quoted.values.pcrs(), pcrs),
            Err(error) => errors.push(error),
        }
        errors.extend(certify(&mut tpm, attestation.handle, attestation, &[0xcd; 32]).err());
    }
    errors.extend(attestation.err());
    match endorsement {
        Ok(endorsement) => errors.extend(endorsement.flush(&mut tpm).err()),
        Err(error) => errors.push(error),
    }
    errors
}
