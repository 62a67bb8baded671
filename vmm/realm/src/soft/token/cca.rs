//! Tokens in the flavour of Arm CCA.

use evidence::cca::{
    self, PlatformClaims, PlatformProfile, RealmClaims, RealmKey, RealmProfile, SignatureAlgorithm, Wrapper,
};
use evidence::hash::HashAlgorithm;
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use p384::elliptic_curve::Generate;
use rand::CryptoRng;

use super::{KEY_HASH, LIFECYCLE, Platform};
use crate::Error;
use crate::soft::measurements::Measurements;

/// The Realm's key, and the platform's token about it.
pub(super) struct Keys {
    pub(super) platform_token: Vec<u8>,
    realm_key: SigningKey,
    rak: RealmKey,
}

impl Keys {
    pub(super) fn new(platform: Platform, key: &SigningKey, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let realm_key = SigningKey::generate_from_rng(rng);
        let point = realm_key.verifying_key().to_sec1_point(false);
        let rak = RealmKey::cose_p384(point.as_bytes()).map_err(Error::token)?;
        let claims = PlatformClaims {
            profile: PlatformProfile::Cca2023,
            nonce: KEY_HASH.digest(rak.claim_bytes()).as_bytes().to_vec(),
            implementation_id: platform.implementation_id,
            instance_id: platform.instance_id,
            config: platform.config,
            lifecycle: LIFECYCLE,
            components: platform.components,
            verification_service: None,
            hash: HashAlgorithm::Sha256,
        };
        Ok(Self { platform_token: sign(&claims.encode(), key)?, realm_key, rak })
    }

    pub(super) fn realm_token(
        &self,
        challenge: [u8; 64],
        rpv: [u8; 64],
        hash: HashAlgorithm,
        measurements: &Measurements,
    ) -> Result<Vec<u8>, Error> {
        let claims = RealmClaims {
            challenge,
            profile: RealmProfile::Realm2023,
            rpv,
            hash,
            rak: self.rak.clone(),
            rim: measurements.rim(),
            rems: measurements.rems(),
            rak_hash: KEY_HASH,
        };
        sign(&claims.encode(), &self.realm_key)
    }

    pub(super) fn wrap(&self, realm_token: &[u8]) -> Vec<u8> {
        cca::wrap(Wrapper::Tag399, &self.platform_token, realm_token)
    }
}

fn sign(claims: &[u8], key: &SigningKey) -> Result<Vec<u8>, Error> {
    cca::sign(claims, SignatureAlgorithm::Es384, |bytes| {
        let signature: Signature = key.try_sign(bytes).map_err(Error::token)?;
        Ok(signature.to_bytes().to_vec())
    })
}
