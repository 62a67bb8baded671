//! Signature verification behind one small trait, so that the hot path can be replaced or counted in tests.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    UnparsedPublicKey,
};
use evidence::cca::SignatureAlgorithm;

/// The signature does not verify, or the key does not fit the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Verifies one COSE ECDSA signature (RFC 9053 section 2.1: fixed-size r || s).
pub trait SignatureVerifier: Send + Sync {
    /// Checks `signature` over `message` with the uncompressed SEC1 `point`.
    ///
    /// # Errors
    /// [`BadSignature`] if it does not verify. The curve is the one that the algorithm names (ES256 is P-256, ES384
    /// P-384, ES512 P-521); a point of another curve fails.
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        point: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature>;
}

/// The implementation on AWS-LC.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLc;

impl SignatureVerifier for AwsLc {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        point: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let (algorithm, point_len) = parameters(algorithm);
        // AWS-LC also takes compressed points and SubjectPublicKeyInfo here; one encoding keeps key comparison exact.
        if point.len() != point_len || point.first() != Some(&4) {
            return Err(BadSignature);
        }
        UnparsedPublicKey::new(algorithm, point).verify(message, signature).map_err(|_| BadSignature)
    }
}

fn parameters(algorithm: SignatureAlgorithm) -> (&'static EcdsaVerificationAlgorithm, usize) {
    match algorithm {
        SignatureAlgorithm::Es256 => (&ECDSA_P256_SHA256_FIXED, 65),
        SignatureAlgorithm::Es384 => (&ECDSA_P384_SHA384_FIXED, 97),
        SignatureAlgorithm::Es512 => (&ECDSA_P521_SHA512_FIXED, 133),
    }
}
