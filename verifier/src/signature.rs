//! Signature verification behind one small trait, so that the hot path can be replaced or counted in tests.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ParsedPublicKey,
    RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use evidence::cca::SignatureAlgorithm;

/// The signature does not verify, or the key does not fit the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Verifies one COSE signature: ECDSA (RFC 9053 section 2.1: fixed-size r || s) or RSASSA-PSS (RFC 8230 section 2).
pub trait SignatureVerifier: Send + Sync {
    /// Checks `signature` over `message` with `key`: the uncompressed SEC1 point for ECDSA, the SubjectPublicKeyInfo for
    /// RSA.
    ///
    /// # Errors
    /// [`BadSignature`] if it does not verify. The curve is the one that the algorithm names (ES256 is P-256, ES384
    /// P-384, ES512 P-521); a point of another curve fails.
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
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
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        if !has_form(algorithm, key) {
            return Err(BadSignature);
        }
        UnparsedPublicKey::new(parameters(algorithm), key)
            .verify(message, signature)
            .map_err(|_| BadSignature)
    }
}

/// Whether `key` is a public key that can have made signatures of `algorithm`; an elliptic-curve one lies on its curve.
#[must_use]
pub fn is_key(algorithm: SignatureAlgorithm, key: &[u8]) -> bool {
    has_form(algorithm, key) && ParsedPublicKey::new(parameters(algorithm), key).is_ok()
}

/// AWS-LC also takes compressed points, SubjectPublicKeyInfo for curves and bare RSA keys; one encoding each keeps key
/// comparison exact.
fn has_form(algorithm: SignatureAlgorithm, key: &[u8]) -> bool {
    match algorithm.curve() {
        Some(curve) => key.len() == curve.point_len() && key.first() == Some(&4),
        None => is_rsa_spki(key),
    }
}

/// DER of a SubjectPublicKeyInfo starts with the algorithm, a bare RSAPublicKey with a number.
fn is_rsa_spki(key: &[u8]) -> bool {
    const RSA_ENCRYPTION: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    key.first() == Some(&0x30) && key.get(4..19) == Some(&RSA_ENCRYPTION)
}

fn parameters(algorithm: SignatureAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        SignatureAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        SignatureAlgorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        SignatureAlgorithm::Es512 => &ECDSA_P521_SHA512_FIXED,
        SignatureAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
    }
}
