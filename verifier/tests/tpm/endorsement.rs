//! Which endorsement keys are believed, and who opens a credential.

use evidence::tpm::{Attributes, EncryptedSecret, IdObject, Public, Scheme, SignatureScheme, Symmetric};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use verifier::chain::{Purpose, TrustBundle};
use verifier::testing::{Authority, NOW, Tpm};
use verifier::tpm::credential::{CredentialError, make_credential};
use verifier::tpm::{AttestationKey, endorsement_key};
use verifier::{Code, Refusal};

struct Maker(Authority);

impl Maker {
    fn new() -> Self {
        Self(Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384))
    }

    fn bundle(&self, more: &[String]) -> TrustBundle {
        let pems = [&[self.0.pem()], more].concat();
        TrustBundle::new(pems.iter().map(|pem| ("test.pem", pem.as_bytes())), []).unwrap()
    }

    fn tpm(&self, change: impl FnOnce(&mut CertificateParams)) -> Tpm {
        let mut params = Tpm::endorsement_params();
        change(&mut params);
        Tpm::with_certificate(&self.0, &params)
    }

    fn judge(&self, tpm: &Tpm, public: &Public) -> Result<(), Refusal> {
        endorsement_key(public, &tpm.endorsement_certificate, &self.bundle(&[]), NOW).map(drop)
    }

    fn refused(&self, change: impl FnOnce(&mut CertificateParams)) -> Code {
        let tpm = self.tpm(change);
        self.judge(&tpm, &tpm.endorsement_public()).unwrap_err().code
    }
}

#[test]
fn an_endorsement_key_that_the_manufacturer_certified_is_believed() {
    let maker = Maker::new();
    let tpm = maker.tpm(|_| {});
    maker.judge(&tpm, &tpm.endorsement_public()).unwrap();
    let plain = maker.tpm(|params| (params.key_usages, params.extended_key_usages) = (vec![], vec![]));
    maker.judge(&plain, &plain.endorsement_public()).unwrap();
}

#[test]
fn certificates_of_strangers_of_the_past_and_for_other_uses_are_refused() {
    let maker = Maker::new();
    let stranger = Tpm::new(&Maker::new().0);
    let refusal = maker.judge(&stranger, &stranger.endorsement_public()).unwrap_err();
    assert_eq!(refusal.code, Code::CertificateUntrusted);
    assert_eq!(
        maker.refused(|params| params.not_after = date_time_ymd(2021, 1, 1)),
        Code::CertificateExpired
    );
    assert_eq!(
        maker.refused(|params| params.not_before = date_time_ymd(2059, 1, 1)),
        Code::CertificateExpired
    );
    let signs = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(maker.refused(signs), Code::CertificateConstraint);
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert_eq!(maker.refused(server), Code::CertificateConstraint);
    let revoked = maker.tpm(|params| params.serial_number = Some(77_u64.into()));
    let bundle = maker.bundle(&[maker.0.revocation_list(&[77], 2025..2059)]);
    let refusal =
        endorsement_key(&revoked.endorsement_public(), &revoked.endorsement_certificate, &bundle, NOW)
            .unwrap_err();
    assert_eq!(refusal.code, Code::CertificateRevoked);
}

#[test]
fn a_sub_ca_that_is_none_cannot_certify() {
    let maker = Maker::new();
    let mut params = Authority::ca_params("Sub", 0);
    params.is_ca = IsCa::ExplicitNoCa;
    let false_ca = maker.0.sub(params, &PKCS_ECDSA_P384_SHA384);
    let tpm = Tpm::new(&false_ca);
    let sent = [pem(&tpm.endorsement_certificate), false_ca.pem()].concat();
    let refusal =
        endorsement_key(&tpm.endorsement_public(), sent.as_bytes(), &maker.bundle(&[]), NOW).unwrap_err();
    assert!(matches!(refusal.code, Code::CertificateConstraint | Code::CertificateUntrusted), "{refusal}");
}

fn pem(der: &[u8]) -> String {
    pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, der).unwrap()
}

#[test]
fn another_key_than_the_certified_one_is_refused() {
    let maker = Maker::new();
    let (tpm, other) = (maker.tpm(|_| {}), maker.tpm(|_| {}));
    let refusal = maker.judge(&tpm, &other.endorsement_public()).unwrap_err();
    assert_eq!(refusal.code, Code::EndorsementKeyMismatch);
}

#[test]
fn a_key_with_which_a_tpm_would_open_anything_is_refused() {
    let maker = Maker::new();
    let tpm = maker.tpm(|_| {});
    let good = tpm.endorsement_public();
    let with = |change: &dyn Fn(&mut Public)| {
        let mut key = good.clone();
        change(&mut key);
        maker.judge(&tpm, &key).unwrap_err().code
    };
    for missing in [
        Attributes::RESTRICTED,
        Attributes::DECRYPT,
        Attributes::FIXED_TPM,
        Attributes::FIXED_PARENT,
        Attributes::SENSITIVE_DATA_ORIGIN,
    ] {
        assert_eq!(with(&|key| key.attributes.0 &= !missing.0), Code::TpmKeyUnsuitable, "{missing:?}");
    }
    assert_eq!(with(&|key| key.attributes = key.attributes.and(Attributes::SIGN)), Code::TpmKeyUnsuitable);
    assert_eq!(with(&|key| key.symmetric = Symmetric::Null), Code::TpmKeyUnsuitable);
    let scheme = Scheme::Sign(SignatureScheme::Ecdsa, evidence::bank::Bank::Sha256);
    assert_eq!(with(&|key| key.scheme = scheme), Code::TpmKeyUnsuitable);
}

/// W1: issuer and subject are the same, so no authority is asked.
#[test]
fn a_self_signed_attestation_key_is_refused() {
    let maker = Maker::new();
    let tpm = maker.tpm(|_| {});
    let own = Authority::params("AK").self_signed(&tpm.attestation_key_pair()).unwrap();
    let judge =
        |sent: &[u8]| maker.bundle(&[]).certified(sent, Purpose::Attestation, NOW).unwrap_err().code();
    assert_eq!(judge(own.der()), Code::CertificateUntrusted);
    // Nor can it be installed as an authority.
    assert!(TrustBundle::new([("ak.pem", own.pem().as_bytes())], []).is_err());
    let stranger = Maker::new();
    let foreign = stranger.0.issue(&Authority::params("AK"), &tpm.attestation_key_pair());
    assert_eq!(judge(foreign.der()), Code::CertificateUntrusted);
}

#[test]
fn an_attestation_key_that_an_authority_certified_is_that_key() {
    let maker = Maker::new();
    let tpm = maker.tpm(|_| {});
    let params = |purpose: &[u64]| {
        let mut params = Authority::params("AK");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(purpose.to_vec())];
        params
    };
    let issue = |purpose| maker.0.issue(&params(purpose), &tpm.attestation_key_pair());
    let bundle = maker.bundle(&[]);
    let device = bundle.certified(issue(&[2, 23, 133, 8, 3]).der(), Purpose::Attestation, NOW).unwrap();
    let key = AttestationKey::from_public(&tpm.attestation_public()).unwrap();
    assert!(key.is_certified(&device.key));
    assert_eq!(key.fingerprint(), AttestationKey::from_certified(&device.key).unwrap().fingerprint());
    let other = AttestationKey::from_public(&maker.tpm(|_| {}).attestation_public()).unwrap();
    assert!(!other.is_certified(&device.key));
    assert_ne!(key.fingerprint(), other.fingerprint());
    // An endorsement key's certificate is none of an attestation key.
    let error = bundle.certified(issue(&[2, 23, 133, 8, 1]).der(), Purpose::Attestation, NOW).unwrap_err();
    assert_eq!(error.code(), Code::CertificateConstraint);
    // What was validated for one purpose is not for another.
    let certificate = issue(&[2, 23, 133, 8, 3]);
    bundle.certified(certificate.der(), Purpose::Attestation, NOW).unwrap();
    let error = bundle.certified(certificate.der(), Purpose::Endorsement, NOW).unwrap_err();
    assert_eq!(error.code(), Code::CertificateConstraint);
}

#[test]
fn a_credential_opens_only_in_the_tpm_with_both_keys() {
    let maker = Maker::new();
    let (tpm, other) = (maker.tpm(|_| {}), maker.tpm(|_| {}));
    let make = |endorsement: &Tpm, attestation: &Tpm| -> (IdObject, EncryptedSecret) {
        let name = attestation.attestation_public().name();
        make_credential(&endorsement.endorsement_public(), &name, &[9; 32], &mut rand::rng()).unwrap()
    };
    let (object, secret) = make(&tpm, &tpm);
    assert_eq!(tpm.activate(&object, &secret), Some(vec![9; 32]));
    assert_eq!(other.activate(&object, &secret), None);
    for (endorsement, attestation) in [(&other, &tpm), (&tpm, &other)] {
        let (object, secret) = make(endorsement, attestation);
        assert_eq!(tpm.activate(&object, &secret), None);
    }
    let mut altered = object.clone();
    altered.encrypted[3] ^= 1;
    assert_eq!(tpm.activate(&altered, &secret), None);
    let name = tpm.attestation_public().name();
    let too_long = make_credential(&tpm.endorsement_public(), &name, &[9; 33], &mut rand::rng());
    assert_eq!(too_long, Err(CredentialError::TooLong));
}
