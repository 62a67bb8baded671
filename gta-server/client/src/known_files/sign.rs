//! The signature of a registered signer.

use anyhow::bail;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;

/// The payload as a JWT; the key says by which algorithm.
pub fn jwt(key: &str, payload: &Value) -> anyhow::Result<String> {
    let curves = EncodingKey::from_ec_pem(key.as_bytes()).ok();
    let rsa = EncodingKey::from_rsa_pem(key.as_bytes()).ok();
    let possible = [(Algorithm::ES256, &curves), (Algorithm::ES384, &curves), (Algorithm::PS256, &rsa)];
    for (algorithm, key) in possible {
        if let Some(key) = key
            && let Ok(jwt) = encode(&Header::new(algorithm), payload, key)
        {
            return Ok(jwt);
        }
    }
    bail!("--key: expected a private key in PEM (PKCS #8) on P-256 or P-384, or of RSA from 2048 bits")
}
