//! Keys that sign tokens.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{EncodingKey, Header};
use p384::SecretKey;
use p384::elliptic_curve::Generate as _;
use p384::pkcs8::{EncodePrivateKey as _, PrivateKeyInfoRef};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::environment::Environment;

/// A key that cannot be made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// Not one of ours.
    #[error("a token is signed with ES384 or PS256")]
    Algorithm,
    /// No randomness, or not a key.
    #[error("a token signing key could not be made or read")]
    Key,
    /// It could not be made.
    #[error("the token could not be signed")]
    Signing,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
pub enum Algorithm {
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    #[value(name = "ES384")]
    Es384,
    /// RSASSA-PSS with SHA-256 and a key of 3072 bits: secGear's agents verify nothing but RSA.
    #[serde(rename = "PS256")]
    #[value(name = "PS256")]
    Ps256,
}

impl Algorithm {
    /// Its name (RFC 7518 section 3.1).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
        }
    }

    /// The same, as the library for tokens calls it.
    #[must_use]
    pub const fn jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
        }
    }
}

impl FromStr for Algorithm {
    type Err = SigningError;

    fn from_str(text: &str) -> Result<Self, SigningError> {
        match text {
            "ES384" => Ok(Self::Es384),
            "PS256" => Ok(Self::Ps256),
            _ => Err(SigningError::Algorithm),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A private key that signs tokens.
pub struct SigningKey {
    pair: Pair,
    /// Of its tokens, encoded.
    header: String,
    /// The public half, with `kid` (its thumbprint), `use` and `alg`.
    pub public: Jwk,
    /// The key's name: the RFC 7638 thumbprint of the public half.
    pub kid: String,
}

/// The key, ready to sign. The library for tokens would read and check it anew for each token, which on P-384 takes several
/// times as long as to sign.
enum Pair {
    Es384(EcdsaKeyPair),
    Ps256(KeyPair),
}

impl Pair {
    fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, aws_lc_rs::error::KeyRejected> {
        Ok(match algorithm {
            Algorithm::Es384 => {
                Self::Es384(EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8)?)
            }
            Algorithm::Ps256 => Self::Ps256(KeyPair::from_pkcs8(pkcs8)?),
        })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Es384(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Self::Ps256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

impl SigningKey {
    /// Makes a new key; gives its PKCS#8 DER, too. An RSA key takes its randomness from its library.
    ///
    /// # Errors
    /// [`SigningError::Key`] without randomness.
    pub fn generate(
        algorithm: Algorithm,
        environment: &Environment,
    ) -> Result<(Self, Zeroizing<Vec<u8>>), SigningError> {
        let pkcs8 = match algorithm {
            Algorithm::Es384 => {
                let mut rng = environment.rng().map_err(|_| SigningError::Key)?;
                let document =
                    SecretKey::generate_from_rng(&mut rng).to_pkcs8_der().map_err(|_| SigningError::Key)?;
                Zeroizing::new(document.as_bytes().to_vec())
            }
            Algorithm::Ps256 => {
                let pair = KeyPair::generate(KeySize::Rsa3072).map_err(|_| SigningError::Key)?;
                let document: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SigningError::Key)?;
                Zeroizing::new(document.as_ref().to_vec())
            }
        };
        Ok((Self::from_pkcs8(algorithm, &pkcs8)?, pkcs8))
    }

    /// Takes a key in PKCS#8 DER.
    ///
    /// # Errors
    /// [`SigningError::Key`] if it is none for `algorithm`.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, SigningError> {
        let encoding = match algorithm {
            Algorithm::Es384 => EncodingKey::from_ec_der(pkcs8),
            Algorithm::Ps256 => {
                let info = PrivateKeyInfoRef::try_from(pkcs8).map_err(|_| SigningError::Key)?;
                EncodingKey::from_rsa_der(info.private_key.as_bytes())
            }
        };
        let mut public = Jwk::from_encoding_key(&encoding, algorithm.jwt()).map_err(|_| SigningError::Key)?;
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| SigningError::Key)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let pair = Pair::from_pkcs8(algorithm, pkcs8).map_err(|_| SigningError::Key)?;
        let header = Header { kid: Some(kid.clone()), ..Header::new(algorithm.jwt()) };
        let header = encoded(&header).map_err(|_| SigningError::Key)?;
        Ok(Self { pair, header, public, kid })
    }

    /// Signs claims: a JWS in its compact form (RFC 7515 section 7.1).
    ///
    /// # Errors
    /// [`SigningError::Signing`].
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SigningError> {
        let claims = encoded(claims).map_err(|_| SigningError::Signing)?;
        let mut token = format!("{}.{claims}", self.header);
        let signature = self.pair.sign(token.as_bytes()).map_err(|_| SigningError::Signing)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

fn encoded(json: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(json)?))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_token_is_what_the_library_for_tokens_takes_and_nobody_elses() {
        for algorithm in [Algorithm::Es384, Algorithm::Ps256] {
            let keys = [(); 2].map(|()| SigningKey::generate(algorithm, &Environment::system()).unwrap().0);
            let claims = json!({ "text": "ä", "list": [1, null], "exp": 32_503_680_000_i64 });
            let token = keys[0].sign(&claims).unwrap();
            let read = |key: &SigningKey| {
                let key = DecodingKey::from_jwk(&key.public).unwrap();
                decode::<Value>(&token, &key, &Validation::new(algorithm.jwt()))
            };
            let read_well = read(&keys[0]).unwrap();
            assert_eq!(read_well.claims, claims);
            let header = serde_json::to_value(&read_well.header).unwrap();
            assert_eq!(header, json!({ "typ": "JWT", "alg": algorithm.name(), "kid": keys[0].kid }));
            read(&keys[1]).unwrap_err();
        }
    }
}
