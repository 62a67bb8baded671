//! Content that a tenant's signer has signed: compact JWTs (RFC 7515) by the key of an installed certificate.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use verifier::chain::{DeviceKey, Signer};

/// Content that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Not three parts in base64url, or not JSON in them.
    #[error("content must be a compact JWT: header, payload and signature in base64url, joined by dots")]
    Form,
    /// An algorithm that proves nothing, or that is not known.
    #[error("the JWT must be signed with RS, PS or ES, 256, 384 or 512")]
    Algorithm,
    /// By nobody whom the tenant has named.
    #[error("the JWT is not signed by any valid certificate that is registered for this purpose")]
    Signer,
    /// The payload is something else.
    #[error("the payload of the JWT does not have the members that are expected")]
    Payload,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// The payload of `jwt`, if one of `signers` has signed it and its certificate is valid at `now`.
///
/// # Errors
/// [`SignedError`].
pub fn open<T: DeserializeOwned>(jwt: &str, signers: &[Signer], now: i64) -> Result<T, SignedError> {
    let (signed, signature) = jwt.rsplit_once('.').ok_or(SignedError::Form)?;
    let (header, payload) = signed.split_once('.').ok_or(SignedError::Form)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SignedError::Form);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| SignedError::Form)?;
    let (payload, signature) = (decode(payload)?, decode(signature)?);
    let algorithm = algorithm(&header.alg).ok_or(SignedError::Algorithm)?;
    let good = signers
        .iter()
        .filter(|signer| (signer.not_before..=signer.not_after).contains(&now))
        .filter(|signer| matches!(signer.key, DeviceKey::Rsa { .. }) != header.alg.starts_with('E'))
        .any(|signer| {
            let key = match &signer.key {
                DeviceKey::Ec { point, .. } => point,
                DeviceKey::Rsa { spki } => spki,
            };
            UnparsedPublicKey::new(algorithm, key).verify(signed.as_bytes(), &signature).is_ok()
        });
    if !good {
        return Err(SignedError::Signer);
    }
    serde_json::from_slice(&payload).map_err(|_| SignedError::Payload)
}

fn algorithm(name: &str) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match name {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        "ES256" => &ECDSA_P256_SHA256_FIXED,
        "ES384" => &ECDSA_P384_SHA384_FIXED,
        "ES512" => &ECDSA_P521_SHA512_FIXED,
        _ => return None,
    })
}
