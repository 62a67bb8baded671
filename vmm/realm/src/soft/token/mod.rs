//! Attestation tokens of the software Realm: one key that stands for the platform, one for the Realm.
//!
//! The kind of the platform's key decides the flavour: with a P-384 key the tokens are those of Arm CCA, with a P-521 key
//! those of virtCCA, whose monitor and firmware sign with such keys. A guest cannot tell the difference, and need not.

mod cca;
mod session;
mod virtcca;

use evidence::cca::{Lifecycle, SoftwareComponent};
use evidence::hash::HashAlgorithm;
use rand::CryptoRng;

pub use session::TokenSession;

use super::Fault;
use super::measurements::Measurements;
use crate::Error;

/// Recoverable CCA system debug: never secured, so no verifier takes this platform for a real one by default.
pub const LIFECYCLE: Lifecycle = Lifecycle(0x5000);

/// Hash of the key that signs a Realm's tokens, as the platform token carries it.
const KEY_HASH: HashAlgorithm = HashAlgorithm::Sha256;

/// The key with which the platform signs.
#[derive(Clone)]
pub enum PlatformKey {
    /// CCA platform attestation key (CPAK): tokens of Arm CCA.
    P384(p384::ecdsa::SigningKey),
    /// Device key: tokens of virtCCA.
    P521(p521::ecdsa::SigningKey),
}

impl PlatformKey {
    /// The public half as an uncompressed point.
    #[must_use]
    pub fn public_point(&self) -> Vec<u8> {
        match self {
            Self::P384(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P521(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        }
    }
}

/// What the platform token says about this platform, and the key that signs it.
pub struct Platform {
    /// Names the kind of platform.
    pub implementation_id: [u8; 32],
    /// Names the one platform; the first byte is 1.
    pub instance_id: [u8; 33],
    /// Configuration of the platform, opaque.
    pub config: Vec<u8>,
    /// The software that the platform trusts; at least one.
    pub components: Vec<SoftwareComponent>,
    /// Signs for the platform.
    pub key: PlatformKey,
}

/// Mints tokens for one Realm.
pub struct Mint {
    flavour: Flavour,
    rpv: [u8; 64],
    hash: HashAlgorithm,
    fault: Option<Fault>,
}

enum Flavour {
    Cca(cca::Keys),
    Virtcca(virtcca::Keys),
}

impl Mint {
    /// Generates the Realm's key and has the platform vouch for it.
    pub fn new(
        platform: Platform,
        rpv: [u8; 64],
        hash: HashAlgorithm,
        fault: Option<Fault>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let flavour = match platform.key.clone() {
            PlatformKey::P384(_) if fault == Some(Fault::NoPlatformToken) => {
                return Err(Error::Refused {
                    backend: "soft",
                    field: "fault",
                    reason: "a token of Arm CCA has no form without its platform token; give the platform a P-521 key",
                });
            }
            PlatformKey::P384(key) => Flavour::Cca(cca::Keys::new(platform, &key, rng)?),
            PlatformKey::P521(key) => Flavour::Virtcca(virtcca::Keys::new(platform, &key, rng)?),
        };
        Ok(Self { flavour, rpv, hash, fault })
    }

    /// A token over `challenge` and the registers as they are now.
    pub fn token(&self, challenge: &[u8; 64], measurements: &Measurements) -> Result<Vec<u8>, Error> {
        let mut challenge = *challenge;
        if self.fault == Some(Fault::Challenge) {
            challenge[0] ^= 1;
        }
        let mut realm_token = match &self.flavour {
            Flavour::Cca(keys) => keys.realm_token(challenge, self.rpv, self.hash, measurements)?,
            Flavour::Virtcca(keys) => keys.cvm_token(challenge, self.rpv, self.hash, measurements)?,
        };
        if let (Some(Fault::Signature), Some(last)) = (self.fault, realm_token.last_mut()) {
            // The signature is the last field of a COSE_Sign1.
            *last ^= 1;
        }
        Ok(match &self.flavour {
            Flavour::Cca(keys) => keys.wrap(&realm_token),
            Flavour::Virtcca(keys) => keys.wrap(&realm_token, self.fault != Some(Fault::NoPlatformToken)),
        })
    }

    /// Upper bound of a token's size in bytes.
    pub fn limit(&self) -> usize {
        // The Realm token has a fixed set of claims of bounded size: about 800 bytes with SHA-512 registers.
        const REALM_TOKEN_AND_WRAPPER: usize = 2048;
        let platform = match &self.flavour {
            Flavour::Cca(keys) => keys.platform_token.len(),
            Flavour::Virtcca(keys) => keys.platform_token.len(),
        };
        platform + REALM_TOKEN_AND_WRAPPER
    }
}
