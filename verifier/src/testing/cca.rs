//! A platform and a Realm of our own: mints CCA tokens with keys that exist only here.

use evidence::cca::{
    self, Lifecycle, PlatformClaims, PlatformProfile, RealmClaims, RealmKey, RealmProfile,
    SignatureAlgorithm, SoftwareComponent, Wrapper,
};
use evidence::envelope::Evidence;
use evidence::hash::{Digest, HashAlgorithm};
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use p384::pkcs8::{EncodePublicKey as _, LineEnding};

use super::store::{ANCHOR, Registered};
use crate::{PublicKey, TrustAnchor};

/// The published private halves of the two keys that the verifier denies (TF-M sample CPAK, TF-A sample RAK).
pub const PUBLISHED_CPAK: &str =
    "8ac090c995869f61ac1358f02b021a26ab6eb386203ac735d7ce9855538b91f74c44b0d580243efb799a293dcbaa0899";
/// See [`PUBLISHED_CPAK`].
pub const PUBLISHED_RAK: &str =
    "2011c7f03cee4325176e524f033c0ce1e21a76e6c1a4f0b839aa1df61e0e8a5c8a05740f9b69efa7eb1a4185bd117f68";

/// What is signed, and with what.
#[derive(Clone)]
pub struct Mint {
    /// Signs the platform token.
    pub cpak: SigningKey,
    /// Signs the Realm token.
    pub rak: SigningKey,
    /// What the platform says.
    pub platform: PlatformClaims,
    /// What the monitor says.
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
        let anchor = TrustAnchor {
            name: ANCHOR.to_owned(),
            key: PublicKey::from_pem(&self.public_key_pem()).unwrap(),
            development: false,
            provenance: Registered::provenance(),
        };
        let mut store = Registered::with_reference(self.realm.rim);
        store.platform = Some((self.platform.implementation_id, self.platform.instance_id, anchor));
        store
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

/// A SHA-256 value that repeats `byte`.
pub fn digest(byte: u8) -> Digest {
    Digest::from_slice(&[byte; 32]).unwrap()
}

/// The uncompressed SEC1 point of a key's public half.
pub fn point(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

fn instance_id() -> [u8; 33] {
    let mut id = [9; 33];
    id[0] = 1;
    id
}

fn sign(payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let Ok(token) = cca::sign::<std::convert::Infallible>(payload, SignatureAlgorithm::Es384, |tbs| {
        let signature: Signature = key.sign(tbs);
        Ok(signature.to_bytes().to_vec())
    });
    token
}
