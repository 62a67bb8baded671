//! Tokens in the flavour of virtCCA: a CVM token and a Platform Token, both signed with P-521 keys.

use evidence::hash::HashAlgorithm;
use evidence::token::{SignatureAlgorithm, sign as cose_sign};
use evidence::virtcca::{self, CvmClaims, CvmKey, PlatformClaims, SoftwareComponent};
use p521::ecdsa::signature::Signer;
use p521::ecdsa::{Signature, SigningKey};
use p521::elliptic_curve::Generate;
use rand::CryptoRng;

use super::{KEY_HASH, LIFECYCLE, Platform};
use crate::Error;
use crate::soft::measurements::Measurements;

/// The CVM's key, and the platform's token about it.
pub(super) struct Keys {
    pub(super) platform_token: Vec<u8>,
    cvm_key: SigningKey,
    key: CvmKey,
}

impl Keys {
    pub(super) fn new(platform: Platform, key: &SigningKey, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let cvm_key = SigningKey::generate_from_rng(rng);
        let point = cvm_key.verifying_key().to_sec1_point(false);
        let cvm = CvmKey::new(point.as_bytes().to_vec()).map_err(Error::token)?;
        let component = |component: evidence::cca::SoftwareComponent| SoftwareComponent {
            kind: component.kind.unwrap_or_default(),
            measurement: component.measurement,
            version: component.version.unwrap_or_default(),
            signer_id: component.signer_id.as_bytes().to_vec(),
            hash: component.hash,
        };
        let claims = PlatformClaims {
            // Real platforms leave it and the verification service empty.
            profile: String::new(),
            challenge: KEY_HASH.digest(cvm.claim_bytes()),
            implementation_id: platform.implementation_id,
            instance_id: platform.instance_id,
            config: platform.config,
            lifecycle: LIFECYCLE,
            components: platform.components.into_iter().map(component).collect(),
            verification_service: String::new(),
            hash: HashAlgorithm::Sha256,
        };
        Ok(Self { platform_token: sign(&claims.encode(), key)?, cvm_key, key: cvm })
    }

    pub(super) fn cvm_token(
        &self,
        challenge: [u8; 64],
        rpv: [u8; 64],
        hash: HashAlgorithm,
        measurements: &Measurements,
    ) -> Result<Vec<u8>, Error> {
        let claims = CvmClaims {
            challenge,
            rpv,
            hash,
            key: self.key.clone(),
            rim: measurements.rim(),
            rems: measurements.rems(),
            key_hash: KEY_HASH,
        };
        sign(&claims.encode(), &self.cvm_key)
    }

    pub(super) fn wrap(&self, cvm_token: &[u8], with_platform_token: bool) -> Vec<u8> {
        virtcca::wrap(with_platform_token.then_some(self.platform_token.as_slice()), cvm_token)
    }
}

fn sign(claims: &[u8], key: &SigningKey) -> Result<Vec<u8>, Error> {
    cose_sign(claims, SignatureAlgorithm::Es512, |bytes| {
        let signature: Signature = key.try_sign(bytes).map_err(Error::token)?;
        Ok(signature.to_bytes().to_vec())
    })
}
