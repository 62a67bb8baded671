//! A platform and a Realm of our own: mints CCA tokens with keys that exist only here.

#![allow(dead_code, reason = "each test binary uses its own part")]

use evidence::cca::{
    self, Lifecycle, PlatformClaims, PlatformProfile, RealmClaims, RealmKey, RealmProfile,
    SignatureAlgorithm, SoftwareComponent, Wrapper,
};
use evidence::envelope::Evidence;
use evidence::hash::{Digest, HashAlgorithm};
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use p384::pkcs8::{EncodePublicKey as _, LineEnding};
use verifier::{
    Provenance, PublicKey, RealmReference, ReferenceValues, StoreError, TrustAnchor, TrustAnchors,
};

pub const ANCHOR: &str = "demo-platform";

/// The published private halves of the two keys that the verifier denies (TF-M sample CPAK, TF-A sample RAK).
pub const PUBLISHED_CPAK: &str =
    "8ac090c995869f61ac1358f02b021a26ab6eb386203ac735d7ce9855538b91f74c44b0d580243efb799a293dcbaa0899";
pub const PUBLISHED_RAK: &str =
    "2011c7f03cee4325176e524f033c0ce1e21a76e6c1a4f0b839aa1df61e0e8a5c8a05740f9b69efa7eb1a4185bd117f68";

/// What is signed, and with what.
#[derive(Clone)]
pub struct Mint {
    pub cpak: SigningKey,
    pub rak: SigningKey,
    pub platform: PlatformClaims,
    pub realm: RealmClaims,
}

impl Mint {
    /// A secured platform and a Realm with the RIM 0x11 repeated, answering `challenge`.
    pub fn new(challenge: [u8; 64]) -> Self {
        let cpak = key(1);
        let rak = key(2);
        let realm_key = RealmKey::cose_p384(&point(&rak)).unwrap();
        let component = SoftwareComponent {
            kind: Some("BL".to_owned()),
            measurement: digest(0x31),
            version: Some("1.0".to_owned()),
            signer_id: digest(0x32),
            hash: None,
        };
        Self {
            platform: PlatformClaims {
                profile: PlatformProfile::Cca2023,
                nonce: HashAlgorithm::Sha256.digest(realm_key.claim_bytes()).as_bytes().to_vec(),
                implementation_id: [7; 32],
                instance_id: instance_id(),
                config: vec![1, 2, 3],
                lifecycle: Lifecycle(0x3003),
                components: vec![component],
                verification_service: None,
                hash: HashAlgorithm::Sha256,
            },
            realm: RealmClaims {
                challenge,
                profile: RealmProfile::Realm2023,
                rpv: [0; 64],
                hash: HashAlgorithm::Sha256,
                rak: realm_key,
                rim: digest(0x11),
                rems: [Digest::zero(HashAlgorithm::Sha256); 4],
                rak_hash: HashAlgorithm::Sha256,
            },
            cpak,
            rak,
        }
    }

    /// Takes another Realm attestation key, with a platform token that vouches for it.
    pub fn with_rak(mut self, rak: SigningKey) -> Self {
        self.realm.rak = RealmKey::cose_p384(&point(&rak)).unwrap();
        self.platform.nonce = HashAlgorithm::Sha256.digest(self.realm.rak.claim_bytes()).as_bytes().to_vec();
        self.rak = rak;
        self
    }

    /// The signed token.
    pub fn token(&self) -> Vec<u8> {
        let platform = sign(&self.platform.encode(), &self.cpak);
        let realm = sign(&self.realm.encode(), &self.rak);
        cca::wrap(Wrapper::Tag399, &platform, &realm)
    }

    /// The signed token in its envelope.
    pub fn evidence(&self) -> Evidence {
        Evidence::cca(self.token())
    }

    /// The platform's public key in PEM.
    pub fn public_key_pem(&self) -> String {
        p384::PublicKey::from(*self.cpak.verifying_key()).to_public_key_pem(LineEnding::LF).unwrap()
    }

    /// A store in which this platform and this Realm are registered.
    pub fn registered(&self) -> Registered {
        let provenance = Provenance { source: "test".to_owned(), added_at: 1_700_000_000 };
        Registered {
            implementation_id: self.platform.implementation_id,
            instance_id: self.platform.instance_id,
            anchor: TrustAnchor {
                name: ANCHOR.to_owned(),
                key: PublicKey::from_pem(&self.public_key_pem()).unwrap(),
                development: false,
                provenance: provenance.clone(),
            },
            references: vec![RealmReference {
                name: "guest".to_owned(),
                rim: self.realm.rim,
                rpv: None,
                rems: [None; 4],
                provenance,
            }],
        }
    }
}

/// One trust anchor and some references.
#[derive(Clone)]
pub struct Registered {
    pub implementation_id: [u8; 32],
    pub instance_id: [u8; 33],
    pub anchor: TrustAnchor,
    pub references: Vec<RealmReference>,
}

impl TrustAnchors for Registered {
    fn platform_key(
        &self,
        implementation_id: &[u8; 32],
        instance_id: &[u8; 33],
    ) -> Result<Option<TrustAnchor>, StoreError> {
        let found = *implementation_id == self.implementation_id && *instance_id == self.instance_id;
        Ok(found.then(|| self.anchor.clone()))
    }
}

impl ReferenceValues for Registered {
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, StoreError> {
        Ok(self.references.iter().filter(|reference| reference.rim == *rim).cloned().collect())
    }
}

/// A store that cannot be read.
pub struct Broken;

impl TrustAnchors for Broken {
    fn platform_key(&self, _: &[u8; 32], _: &[u8; 33]) -> Result<Option<TrustAnchor>, StoreError> {
        Err(StoreError)
    }
}

impl ReferenceValues for Broken {
    fn realm(&self, _: &Digest) -> Result<Vec<RealmReference>, StoreError> {
        Err(StoreError)
    }
}

/// A private key that is `number`.
pub fn key(number: u8) -> SigningKey {
    let mut scalar = [0; 48];
    scalar[47] = number;
    SigningKey::from_slice(&scalar).unwrap()
}

/// A private key from hexadecimal.
pub fn key_from_hex(scalar: &str) -> SigningKey {
    SigningKey::from_slice(&hex::decode(scalar).unwrap()).unwrap()
}

pub fn digest(byte: u8) -> Digest {
    Digest::from_slice(&[byte; 32]).unwrap()
}

pub fn point(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

fn instance_id() -> [u8; 33] {
    let mut id = [9; 33];
    id[0] = 1;
    id
}

fn sign(payload: &[u8], key: &SigningKey) -> Vec<u8> {
    cca::sign::<std::convert::Infallible>(payload, SignatureAlgorithm::Es384, |tbs| {
        let signature: Signature = key.sign(tbs);
        Ok(signature.to_bytes().to_vec())
    })
    .unwrap()
}
