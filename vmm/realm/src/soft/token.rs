//! Attestation tokens of the software Realm: one key that stands for the platform, one for the Realm.

use evidence::cca::{
    self, Lifecycle, PlatformClaims, PlatformProfile, RealmClaims, RealmKey, RealmProfile,
    SignatureAlgorithm, SoftwareComponent, Wrapper,
};
use evidence::hash::HashAlgorithm;
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use p384::elliptic_curve::Generate;
use rand::CryptoRng;

use super::Fault;
use super::measurements::Measurements;
use crate::Error;

/// Recoverable CCA system debug: never secured, so no verifier takes this platform for a real one by default.
pub const LIFECYCLE: Lifecycle = Lifecycle(0x5000);

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
    /// CCA platform attestation key (CPAK).
    pub key: SigningKey,
}

/// Mints tokens for one Realm.
pub struct Mint {
    platform_token: Vec<u8>,
    realm_key: SigningKey,
    rak: RealmKey,
    rpv: [u8; 64],
    hash: HashAlgorithm,
    fault: Option<Fault>,
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
        const RAK_HASH: HashAlgorithm = HashAlgorithm::Sha256;
        let realm_key = SigningKey::generate_from_rng(rng);
        let point = realm_key.verifying_key().to_sec1_point(false);
        let rak = RealmKey::cose_p384(point.as_bytes()).map_err(Error::token)?;
        let claims = PlatformClaims {
            profile: PlatformProfile::Cca2023,
            nonce: RAK_HASH.digest(rak.claim_bytes()).as_bytes().to_vec(),
            implementation_id: platform.implementation_id,
            instance_id: platform.instance_id,
            config: platform.config,
            lifecycle: LIFECYCLE,
            components: platform.components,
            verification_service: None,
            hash: HashAlgorithm::Sha256,
        };
        let platform_token = sign(&claims.encode(), &platform.key)?;
        Ok(Self { platform_token, realm_key, rak, rpv, hash, fault })
    }

    /// A token over `challenge` and the registers as they are now.
    pub fn token(&self, challenge: &[u8; 64], measurements: &Measurements) -> Result<Vec<u8>, Error> {
        let mut challenge = *challenge;
        if self.fault == Some(Fault::Challenge) {
            challenge[0] ^= 1;
        }
        let claims = RealmClaims {
            challenge,
            profile: RealmProfile::Realm2023,
            rpv: self.rpv,
            hash: self.hash,
            rak: self.rak.clone(),
            rim: measurements.rim(),
            rems: measurements.rems(),
            rak_hash: HashAlgorithm::Sha256,
        };
        let mut realm_token = sign(&claims.encode(), &self.realm_key)?;
        if let (Some(Fault::Signature), Some(last)) = (self.fault, realm_token.last_mut()) {
            // The signature is the last field of a COSE_Sign1.
            *last ^= 1;
        }
        Ok(cca::wrap(Wrapper::Tag399, &self.platform_token, &realm_token))
    }

    /// Upper bound of a token's size in bytes.
    pub fn limit(&self) -> usize {
        // The Realm token has a fixed set of claims of bounded size: about 600 bytes with SHA-512 registers.
        const REALM_TOKEN_AND_WRAPPER: usize = 2048;
        self.platform_token.len() + REALM_TOKEN_AND_WRAPPER
    }
}

fn sign(claims: &[u8], key: &SigningKey) -> Result<Vec<u8>, Error> {
    cca::sign(claims, SignatureAlgorithm::Es384, |bytes| {
        let signature: Signature = key.try_sign(bytes).map_err(Error::token)?;
        Ok(signature.to_bytes().to_vec())
    })
}

/// Where one vCPU stands in fetching a token, which takes one call to start and one or more to read.
#[derive(Debug, Default)]
pub struct TokenSession {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Started {
        challenge: [u8; 64],
    },
    Reading {
        token: Vec<u8>,
        position: usize,
    },
}

impl TokenSession {
    /// Starts over with a new challenge, whatever went before.
    pub fn start(&mut self, challenge: [u8; 64]) {
        self.state = State::Started { challenge };
    }

    /// What the guest has not read yet, or nothing if no generation was started.
    pub fn remaining(
        &mut self,
        mint: impl FnOnce(&[u8; 64]) -> Result<Vec<u8>, Error>,
    ) -> Result<Option<&[u8]>, Error> {
        if let State::Started { challenge } = &self.state {
            self.state = State::Reading { token: mint(challenge)?, position: 0 };
        }
        match &self.state {
            State::Reading { token, position } => Ok(token.get(*position..)),
            State::Idle | State::Started { .. } => Ok(None),
        }
    }

    /// Takes `len` bytes as read; after the last one there is nothing to continue.
    pub fn advance(&mut self, len: usize) {
        if let State::Reading { token, position } = &mut self.state {
            *position += len;
            if *position >= token.len() {
                self.state = State::Idle;
            }
        }
    }
}
