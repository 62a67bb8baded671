//! A TPM of our own: an endorsement key with a certificate, an attestation key, registers and a clock.

use std::collections::BTreeMap;

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use evidence::bank::{Bank, BankValue};
use evidence::tcg::Registers;
use evidence::tpm::{
    AsymmetricKey, Attest, Attested, Attributes, ClockInfo, EccCurve, EncryptedSecret, IdObject,
    PcrSelection, PcrSet, PcrValues, Public, Scheme, Signature, SignatureScheme, SignatureValue, Symmetric,
};
use p256::ecdsa::signature::Signer as _;
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::DecodePrivateKey as _;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::Authority;
use crate::tpm::credential::{INTEGRITY, STORAGE, kdfa, kdfe};

/// Policy A of the TCG's endorsement key templates.
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";

/// A TPM with the bank SHA-256.
pub struct Tpm {
    endorsement: p256::SecretKey,
    /// The certificate of its endorsement key, in DER.
    pub endorsement_certificate: Vec<u8>,
    attestation: p256::ecdsa::SigningKey,
    registers: BTreeMap<u32, BankValue>,
    /// What it counts.
    pub clock: ClockInfo,
}

/// A quote as it is sent.
#[derive(Clone, Debug)]
pub struct TpmQuote {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// The values of the registers.
    pub values: PcrValues,
}

impl Tpm {
    /// Parameters of a certificate of an endorsement key.
    pub fn endorsement_params() -> CertificateParams {
        let mut params = Authority::params("TPM");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
        params
    }

    /// A new TPM, certified by `manufacturer`.
    pub fn new(manufacturer: &Authority) -> Self {
        Self::with_certificate(manufacturer, &Self::endorsement_params())
    }

    /// A new TPM with a certificate of these parameters.
    pub fn with_certificate(manufacturer: &Authority, params: &CertificateParams) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            endorsement: p256::SecretKey::from_pkcs8_der(&key.serialize_der()).unwrap(),
            endorsement_certificate: manufacturer.issue(params, &key).der().to_vec(),
            attestation: p256::SecretKey::generate_from_rng(&mut rand::rng()).into(),
            registers: (0..24).map(|pcr| (pcr, Registers::Pcr.initial(pcr, Bank::Sha256))).collect(),
            clock: ClockInfo { clock: 1000, reset_count: 1, restart_count: 0, safe: true },
        }
    }

    /// The public area of its endorsement key: template L-2.
    pub fn endorsement_public(&self) -> Public {
        Public {
            name_algorithm: Bank::Sha256,
            attributes: fixed(
                Attributes::RESTRICTED.and(Attributes::DECRYPT).and(Attributes::ADMIN_WITH_POLICY),
            ),
            auth_policy: hex::decode(POLICY_A).unwrap(),
            symmetric: Symmetric::AesCfb { bits: 128 },
            scheme: Scheme::Null,
            key: ecc(&self.endorsement.public_key()),
        }
    }

    /// The public area of its attestation key.
    pub fn attestation_public(&self) -> Public {
        Public {
            name_algorithm: Bank::Sha256,
            attributes: fixed(Attributes::RESTRICTED.and(Attributes::SIGN).and(Attributes::USER_WITH_AUTH)),
            auth_policy: Vec::new(),
            symmetric: Symmetric::Null,
            scheme: Scheme::Sign(SignatureScheme::Ecdsa, Bank::Sha256),
            key: ecc(&(*self.attestation.verifying_key()).into()),
        }
    }

    /// The attestation key as a key pair that authorities can certify.
    pub fn attestation_key_pair(&self) -> KeyPair {
        use p256::pkcs8::EncodePrivateKey as _;
        let der = p256::SecretKey::from(&self.attestation).to_pkcs8_der().unwrap();
        KeyPair::try_from(der.as_bytes()).unwrap()
    }

    /// Extends a register with the digest of `data`.
    pub fn extend(&mut self, register: u32, digest: &[u8]) {
        self.registers.get_mut(&register).unwrap().extend(digest);
    }

    /// The value of a register.
    pub fn register(&self, register: u32) -> BankValue {
        self.registers[&register]
    }

    /// Sets a register, as only a machine's start can.
    pub fn set(&mut self, register: u32, value: BankValue) {
        self.registers.insert(register, value);
    }

    /// Starts the machine anew: registers begin again.
    pub fn reset(&mut self) {
        self.clock.reset_count += 1;
        for (register, value) in &mut self.registers {
            *value = Registers::Pcr.initial(*register, Bank::Sha256);
        }
    }

    /// Quotes registers.
    pub fn quote(&self, registers: &[u32], qualifying: &[u8]) -> TpmQuote {
        let values = registers.iter().map(|register| (*register, self.registers[register].as_bytes()));
        let values = PcrValues::new(Bank::Sha256, values).unwrap();
        let pcrs = PcrSet::new(registers.iter().copied()).unwrap();
        let attested = Attested::Quote {
            selection: vec![PcrSelection { bank: Bank::Sha256, pcrs }],
            pcr_digest: values.digest(Bank::Sha256).as_bytes().to_vec(),
        };
        let (attest, signature) = self.sign(attested, qualifying);
        TpmQuote { attest, signature, values }
    }

    /// Signs an attestation of anything.
    pub fn sign(&self, attested: Attested, qualifying: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let attest = Attest {
            qualified_signer: self.attestation_public().name().as_bytes().to_vec(),
            extra_data: qualifying.to_vec(),
            clock: self.clock,
            firmware_version: 1,
            attested,
        };
        let attest = attest.encode();
        let signature = self.sign_bytes(&attest);
        (attest, signature)
    }

    /// Signs bytes, which a restricted key of a real TPM would refuse.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: p256::ecdsa::Signature = self.attestation.sign(bytes);
        let (r, s) = signature.split_bytes();
        let value = SignatureValue::Ecdsa { r: r.to_vec(), s: s.to_vec() };
        Signature { hash: Bank::Sha256, value }.encode()
    }

    /// Opens a credential that was made for its two keys (`TPM2_ActivateCredential`).
    pub fn activate(&self, object: &IdObject, secret: &EncryptedSecret) -> Option<Vec<u8>> {
        let (x, y) = secret.point().ok()?;
        let ephemeral = p256::PublicKey::from_sec1_bytes(&[&[4], x, y].concat()).ok()?;
        let shared = self.endorsement.diffie_hellman(&ephemeral);
        let AsymmetricKey::Ecc { x: own, .. } = self.endorsement_public().key else { return None };
        let seed = kdfe(Bank::Sha256, shared.raw_secret_bytes(), x, &own);
        let name = self.attestation_public().name();
        let key = kdfa(Bank::Sha256, &seed, INTEGRITY, &[], 256).ok()?;
        let authenticated = [&object.encrypted, name.as_bytes()].concat();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), &authenticated, &object.integrity).ok()?;
        let key = kdfa(Bank::Sha256, &seed, STORAGE, name.as_bytes(), 128).ok()?;
        let key = DecryptingKey::cfb128(UnboundCipherKey::new(&AES_128, &key).ok()?).ok()?;
        let mut plain = object.encrypted.clone();
        key.decrypt(&mut plain, DecryptionContext::Iv128(FixedLength::from([0; 16]))).ok()?;
        Some(plain.split_off(2))
    }
}

fn fixed(others: Attributes) -> Attributes {
    Attributes::FIXED_TPM.and(Attributes::FIXED_PARENT).and(Attributes::SENSITIVE_DATA_ORIGIN).and(others)
}

fn ecc(key: &p256::PublicKey) -> AsymmetricKey {
    use p256::elliptic_curve::sec1::ToSec1Point as _;
    let point = key.to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    AsymmetricKey::Ecc { curve: EccCurve::P256, x: x.to_vec(), y: y.to_vec() }
}
