//! A virtCCA platform and a CVM: a certificate hierarchy, a device, a Platform Token and a CVM token.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA256};
use evidence::envelope::{Evidence, Logs, VirtccaEvidence};
use evidence::hash::{Digest, HashAlgorithm};
use evidence::token::{Lifecycle, SignatureAlgorithm, sign};
use evidence::virtcca::{self, CvmClaims, CvmKey, PlatformClaims, SoftwareComponent};
use rcgen::{
    CertificateParams, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, SerialNumber,
};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::authority::Authority;
use super::cca::digest;
use super::store::Registered;
use crate::chain::TrustBundle;

/// Serial number of the device certificate.
const SERIAL: u64 = 0x11_2233;

/// RSA keys take seconds to make.
static RSA_DEVICE: LazyLock<DeviceSigner> = LazyLock::new(DeviceSigner::new_rsa_4096);

/// A key that signs tokens, of a device or of a monitor.
#[derive(Clone)]
pub enum DeviceSigner {
    /// P-521, for ES512.
    P521(Arc<EcdsaKeyPair>, Arc<KeyPair>),
    /// RSA-4096, for PS256.
    Rsa4096(Arc<RsaKeyPair>, Arc<KeyPair>),
}

impl DeviceSigner {
    /// A new P-521 key.
    pub fn p521() -> Self {
        let certified = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
        let pkcs8 = certified.serialize_der();
        let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, &pkcs8).unwrap();
        Self::P521(Arc::new(signer), Arc::new(certified))
    }

    /// The one RSA-4096 key of this process.
    pub fn rsa_4096() -> Self {
        RSA_DEVICE.clone()
    }

    /// A new RSA-4096 key.
    pub fn new_rsa_4096() -> Self {
        let signer = RsaKeyPair::generate(KeySize::Rsa4096).unwrap();
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&signer).unwrap();
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_ref());
        let certified = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_RSA_SHA256).unwrap();
        Self::Rsa4096(Arc::new(signer), Arc::new(certified))
    }

    /// The key as certificates see it.
    pub fn certified(&self) -> &KeyPair {
        match self {
            Self::P521(_, certified) | Self::Rsa4096(_, certified) => certified,
        }
    }

    /// The public half as CVM tokens carry it.
    pub fn cvm_key(&self) -> CvmKey {
        match self {
            Self::P521(signer, _) => CvmKey::new(signer.public_key().as_ref().to_vec()),
            Self::Rsa4096(signer, _) => {
                let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(signer.public_key()).unwrap();
                CvmKey::new(spki.as_ref().to_vec())
            }
        }
        .unwrap()
    }

    /// A COSE_Sign1 of `payload`.
    pub fn sign(&self, payload: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let Ok(token) = match self {
            Self::P521(signer, _) => sign::<Infallible>(payload, SignatureAlgorithm::Es512, |message| {
                Ok(signer.sign(&random, message).unwrap().as_ref().to_vec())
            }),
            Self::Rsa4096(signer, _) => sign::<Infallible>(payload, SignatureAlgorithm::Ps256, |message| {
                let mut signature = vec![0; signer.public_modulus_len()];
                signer.sign(&RSA_PSS_SHA256, &random, message, &mut signature).unwrap();
                Ok(signature)
            }),
        };
        token
    }
}

/// What is signed, and with what.
#[derive(Clone)]
pub struct VirtccaMint {
    /// The root.
    pub root: Arc<Authority>,
    /// The authority below it, which issues device certificates.
    pub sub: Arc<Authority>,
    /// Signs the Platform Token; its public half is in the device certificate.
    pub device: DeviceSigner,
    /// What came with the evidence.
    pub device_certificate: Vec<u8>,
    /// Signs the CVM token.
    pub monitor: DeviceSigner,
    /// What the platform says; older ones say nothing.
    pub platform: Option<PlatformClaims>,
    /// What the monitor says.
    pub cvm: CvmClaims,
    /// What is sent with the token.
    pub logs: Logs,
}

impl VirtccaMint {
    /// A platform with a Platform Token and a CVM with the initial measurement 0x11 repeated, answering `challenge`.
    pub fn new(challenge: [u8; 64]) -> Self {
        let root = Authority::root(Authority::ca_params("Test ECC Root CA", 1), &PKCS_ECDSA_P521_SHA512);
        let sub = root.sub(Authority::ca_params("Test ECC CCA CA", 0), &PKCS_ECDSA_P521_SHA512);
        let (device, monitor) = (DeviceSigner::p521(), DeviceSigner::p521());
        let cvm = cvm_claims(challenge, monitor.cvm_key());
        Self {
            device_certificate: sub.issue(&Self::device_params(), device.certified()).pem().into_bytes(),
            platform: Some(platform_claims(&cvm)),
            root: Arc::new(root),
            sub: Arc::new(sub),
            device,
            monitor,
            cvm,
            logs: Logs::default(),
        }
    }

    /// A platform without a Platform Token, with RSA keys: the device's key signs the CVM token.
    pub fn legacy(challenge: [u8; 64]) -> Self {
        let root = Authority::root(Authority::ca_params("Test Equipment CA", 1), &PKCS_RSA_SHA256);
        let sub = root.sub(Authority::ca_params("Test Product CA", 0), &PKCS_RSA_SHA256);
        let device = DeviceSigner::rsa_4096();
        Self {
            device_certificate: sub.issue(&Self::device_params(), device.certified()).der().to_vec(),
            platform: None,
            root: Arc::new(root),
            sub: Arc::new(sub),
            monitor: device.clone(),
            cvm: cvm_claims(challenge, device.cvm_key()),
            device,
            logs: Logs::default(),
        }
    }

    /// Parameters of a device certificate.
    pub fn device_params() -> CertificateParams {
        let mut params = Authority::params("device-0001");
        params.serial_number = Some(SerialNumber::from(SERIAL));
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params
    }

    /// Takes another device certificate, issued by the sub CA with these parameters.
    #[must_use]
    pub fn with_device_params(mut self, params: &CertificateParams) -> Self {
        self.device_certificate = self.sub.issue(params, self.device.certified()).pem().into_bytes();
        self
    }

    /// Makes the Platform Token name the monitor's key, by `hash`.
    pub fn bind(&mut self, hash: HashAlgorithm) {
        self.cvm.key = self.monitor.cvm_key();
        self.cvm.key_hash = hash;
        if let Some(platform) = &mut self.platform {
            platform.challenge = hash.digest(self.cvm.key.claim_bytes());
        }
    }

    /// The signed Platform Token.
    pub fn platform_token(&self) -> Option<Vec<u8>> {
        self.platform.as_ref().map(|claims| self.device.sign(&claims.encode()))
    }

    /// The signed CVM token.
    pub fn cvm_token(&self) -> Vec<u8> {
        self.monitor.sign(&self.cvm.encode())
    }

    /// The token.
    pub fn token(&self) -> Vec<u8> {
        virtcca::wrap(self.platform_token().as_deref(), &self.cvm_token())
    }

    /// The token with its certificate and logs.
    pub fn virtcca_evidence(&self) -> VirtccaEvidence {
        VirtccaEvidence {
            token: self.token(),
            device_certificate: self.device_certificate.clone(),
            logs: self.logs.clone(),
        }
    }

    /// The evidence in its envelope.
    pub fn evidence(&self) -> Evidence {
        Evidence::Virtcca(self.virtcca_evidence())
    }

    /// A bundle of both authorities and further files in PEM.
    pub fn bundle(&self, more: &[&str]) -> TrustBundle {
        let authorities = [self.root.pem(), self.sub.pem()];
        let files = authorities.iter().map(String::as_str).chain(more.iter().copied());
        TrustBundle::new(files.map(|pem| ("test.pem", pem.as_bytes())), []).unwrap()
    }

    /// A store in which the authorities and the CVM are registered.
    pub fn registered(&self) -> Registered {
        let mut store = Registered::with_reference(self.cvm.rim);
        store.bundle = Arc::new(self.bundle(&[]));
        store
    }

    /// Serial number of the device certificate, for revocation lists.
    pub const fn serial() -> u64 {
        SERIAL
    }
}

fn cvm_claims(challenge: [u8; 64], key: CvmKey) -> CvmClaims {
    CvmClaims {
        challenge,
        rpv: [0; 64],
        hash: HashAlgorithm::Sha256,
        key,
        rim: digest(0x11),
        rems: [Digest::zero(HashAlgorithm::Sha256); 4],
        key_hash: HashAlgorithm::Sha256,
    }
}

/// Shaped as platforms in the field are known to be: empty texts, six components, no signers. In production, though.
fn platform_claims(cvm: &CvmClaims) -> PlatformClaims {
    let versions = [
        ("ipu", "21.23.0"),
        ("imu", "21.23.0"),
        ("imf_ap", "21.23.0"),
        ("tf_bl2", "21.23.0"),
        ("uefi", "21.23.0"),
        ("tee", "1.6"),
    ];
    let component = |(kind, version): (&str, &str)| SoftwareComponent {
        kind: kind.to_owned(),
        measurement: HashAlgorithm::Sha256.digest(kind.as_bytes()),
        version: version.to_owned(),
        signer_id: Vec::new(),
        hash: Some(HashAlgorithm::Sha256),
    };
    let mut instance_id = [9; 33];
    instance_id[0] = 1;
    PlatformClaims {
        profile: String::new(),
        challenge: cvm.key_hash.digest(cvm.key.claim_bytes()),
        implementation_id: [7; 32],
        instance_id,
        config: Vec::new(),
        lifecycle: Lifecycle(0x3000),
        components: versions.map(component).into(),
        verification_service: String::new(),
        hash: HashAlgorithm::Sha256,
    }
}
