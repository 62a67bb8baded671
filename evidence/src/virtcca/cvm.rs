//! Claims of the CVM token.

use ciborium::Value;

use crate::cbor;
use crate::hash::{Digest, HashAlgorithm};
use crate::token::claims::{Claim, Claims, Scope, entry, hash_of, measurements};
use crate::token::{Curve, DecodeError, KeyError, SignatureAlgorithm, Token};

pub(super) const CHALLENGE: Claim = Claim::new(Scope::Cvm, 10, "challenge");
pub(super) const RPV: Claim = Claim::new(Scope::Cvm, 44235, "personalization value");
pub(super) const HASH: Claim = Claim::new(Scope::Cvm, 44236, "hash algorithm");
pub(super) const KEY: Claim = Claim::new(Scope::Cvm, 44237, "public key");
pub(super) const RIM: Claim = Claim::new(Scope::Cvm, 44238, "initial measurement");
pub(super) const REMS: Claim = Claim::new(Scope::Cvm, 44239, "extensible measurements");
pub(super) const KEY_HASH: Claim = Claim::new(Scope::Cvm, 44240, "public key hash algorithm");
pub(super) const KNOWN: [Claim; 7] = [CHALLENGE, RPV, HASH, KEY, RIM, REMS, KEY_HASH];

/// Bytes of the SubjectPublicKeyInfo of an RSA-4096 key with the exponent 65537.
const RSA_4096_SPKI_LEN: usize = 550;

/// The key that signs a CVM token, as the token carries it. Whether it is a valid key is left to the verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CvmKey {
    /// An uncompressed P-521 point: 0x04, x, y.
    P521(Vec<u8>),
    /// SubjectPublicKeyInfo of an RSA-4096 key in DER, on older platforms.
    Rsa4096(Vec<u8>),
}

impl CvmKey {
    /// A key from the bytes of the claim.
    ///
    /// # Errors
    ///
    /// Bytes of neither form.
    pub fn new(claim: Vec<u8>) -> Result<Self, KeyError> {
        match (claim.len(), claim.first()) {
            (133, Some(0x04)) => Ok(Self::P521(claim)),
            (RSA_4096_SPKI_LEN, Some(0x30)) => Ok(Self::Rsa4096(claim)),
            (found, _) => Err(KeyError::Virtcca { found }),
        }
    }

    /// The bytes of the claim, whose hash is the Platform Token's challenge.
    pub fn claim_bytes(&self) -> &[u8] {
        match self {
            Self::P521(bytes) | Self::Rsa4096(bytes) => bytes,
        }
    }

    /// The algorithm of signatures by this key.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::P521(_) => SignatureAlgorithm::Es512,
            Self::Rsa4096(_) => SignatureAlgorithm::Ps256,
        }
    }

    /// What kind of key it is, such as `P-521`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::P521(_) => Curve::P521.name(),
            Self::Rsa4096(_) => "RSA-4096",
        }
    }
}

/// What the monitor (TMM) says about a CVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CvmClaims {
    /// What the CVM gave when it asked for the token.
    pub challenge: [u8; 64],
    /// Personalization value.
    pub rpv: [u8; 64],
    /// Algorithm of the measurements.
    pub hash: HashAlgorithm,
    /// The key that signs the CVM token.
    pub key: CvmKey,
    /// Initial measurement.
    pub rim: Digest,
    /// Extensible measurements.
    pub rems: [Digest; 4],
    /// Algorithm by which the Platform Token's challenge is the hash of [`CvmKey::claim_bytes`].
    pub key_hash: HashAlgorithm,
}

impl CvmClaims {
    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let token = Token::Cvm;
        let payload =
            cbor::read(payload).map_err(|source| DecodeError::Cbor { token, part: "payload", source })?;
        let Value::Bytes(claims) = payload else { return Err(DecodeError::NotWrapped { token }) };
        let mut claims = Claims::read(Scope::Cvm, &claims, &KNOWN)?;
        let hash = claims.padded_hash_algorithm(HASH)?;
        Ok(Self {
            challenge: claims.fixed(CHALLENGE, "64")?,
            rpv: claims.fixed(RPV, "64")?,
            hash,
            key: CvmKey::new(claims.bytes(KEY)?).map_err(|source| DecodeError::Key { claim: KEY, source })?,
            rim: hash_of(RIM, hash, &claims.bytes(RIM)?)?,
            rems: measurements(&mut claims, REMS, hash)?,
            key_hash: claims.padded_hash_algorithm(KEY_HASH)?,
        })
    }

    /// The claims as the payload of a token, in the order in which monitors write them.
    pub fn encode(&self) -> Vec<u8> {
        let claims = Value::Map(vec![
            entry(CHALLENGE, self.challenge.as_slice()),
            entry(RPV, self.rpv.as_slice()),
            entry(KEY, self.key.claim_bytes()),
            entry(HASH, self.hash.name()),
            entry(KEY_HASH, self.key_hash.name()),
            entry(RIM, self.rim.as_bytes()),
            entry(REMS, self.rems.iter().map(|rem| rem.as_bytes().into()).collect::<Vec<Value>>()),
        ]);
        cbor::write(&Value::Bytes(cbor::write(&claims)))
    }
}
