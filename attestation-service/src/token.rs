//! Attestation tokens: JWTs signed with ES384, whose claims a secGear relying party also understands.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jose::{Curve, Jwk};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use p384::SecretKey;
use p384::elliptic_curve::Generate as _;
use p384::elliptic_curve::sec1::ToSec1Point as _;
use p384::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use verifier::Appraisal;
use zeroize::Zeroizing;

use crate::environment::{EntropyError, Environment};

/// How long a token is valid, in seconds; secGear's value.
pub const LIFETIME: i64 = 300;

/// The claims of an attestation token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Who it is for.
    pub aud: String,
    /// When it was issued, seconds since the Unix epoch.
    pub iat: i64,
    /// When it begins to be valid.
    pub nbf: i64,
    /// When it ends to be valid.
    pub exp: i64,
    /// Its own name.
    pub jti: String,
    /// The challenge that the evidence answered, as it was issued.
    pub nonce: String,
    /// The kind of trusted execution environment.
    pub tee: String,
    /// The verified claims, flat.
    pub tcb_status: Map<String, Value>,
    /// What the policies said.
    pub evaluation_reports: EvaluationReports,
    /// The attested key (RFC 7800): the holder has its private half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// secGear's verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluationReports {
    /// Whether the evidence was accepted.
    pub eval_result: bool,
    /// The policies that applied.
    pub policy: Vec<String>,
    /// Policy name to its output as JSON text.
    pub report: Map<String, Value>,
    /// Policy name to the SHA-256 of its text.
    #[serde(default)]
    pub policy_sha256: Map<String, Value>,
}

/// RFC 7800 section 3.2.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confirmation {
    /// The public key.
    pub jwk: Jwk,
}

/// The signing key's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be created or read.
    #[error("cannot create or read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} has mode {mode:04o}, so other users can reach the key in it; run chmod 600 on it")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("{path} does not hold an EC P-384 private key in PKCS#8 PEM")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("cannot generate a token signing key")]
    Generate(#[from] EntropyError),
}

/// Why a presented token was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this service.
    #[error("the token was not issued by this service, or was altered")]
    Invalid,
    /// For somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// Too old, or not valid yet.
    #[error("the token is not valid at this time; attest again")]
    Expired,
    /// It could not be made.
    #[error("the token could not be signed")]
    Signing,
}

/// The private key that signs tokens.
pub struct SigningKey {
    encoding: EncodingKey,
    public: Jwk,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`EntropyError`] without randomness.
    pub fn generate(environment: &Environment) -> Result<(Self, Zeroizing<String>), KeyFileError> {
        let secret = SecretKey::generate_from_rng(&mut environment.rng()?);
        let pem = secret.to_pkcs8_pem(LineEnding::LF).map_err(|_| EntropyError)?;
        let key = Self::from_pem(&pem).ok_or(EntropyError)?;
        Ok((key, pem))
    }

    /// Reads the key at `path`, or makes one there (mode 0600) if there is no file.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file and says what is wrong with it.
    pub fn load_or_create(path: &Path, environment: &Environment) -> Result<Self, KeyFileError> {
        let error = |source| KeyFileError::File { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o7777;
                if mode & 0o077 != 0 {
                    return Err(KeyFileError::Mode { path: path.to_owned(), mode });
                }
            }
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
                let (key, pem) = Self::generate(environment)?;
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(error)?;
                file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(error)?;
                return Ok(key);
            }
            Err(source) => return Err(error(source)),
        }
        let pem = Zeroizing::new(fs::read_to_string(path).map_err(error)?);
        Self::from_pem(&pem).ok_or_else(|| KeyFileError::Format { path: path.to_owned() })
    }

    fn from_pem(pem: &str) -> Option<Self> {
        let secret = SecretKey::from_pkcs8_pem(pem).ok()?;
        let point = secret.public_key().to_sec1_point(false);
        let public = Jwk::from_sec1(Curve::P384, point.as_bytes()).ok()?;
        let encoding = EncodingKey::from_ec_pem(pem.as_bytes()).ok()?;
        Some(Self { encoding, public })
    }
}

/// Issues and checks the service's own tokens.
pub struct Tokens {
    key: SigningKey,
    decoding: DecodingKey,
    kid: String,
    issuer: String,
    audience: String,
}

impl Tokens {
    /// Tokens of `issuer` for `audience`.
    ///
    /// # Errors
    /// [`TokenError::Signing`] if the key cannot be used.
    pub fn new(key: SigningKey, issuer: String, audience: String) -> Result<Self, TokenError> {
        let public = serde_json::to_value(&key.public).map_err(|_| TokenError::Signing)?;
        let coordinate = |name| public.get(name).and_then(Value::as_str).ok_or(TokenError::Signing);
        let decoding = DecodingKey::from_ec_components(coordinate("x")?, coordinate("y")?)
            .map_err(|_| TokenError::Signing)?;
        let kid = URL_SAFE_NO_PAD.encode(key.public.thumbprint());
        Ok(Self { key, decoding, kid, issuer, audience })
    }

    /// The public keys, as a JWK set (RFC 7517 section 5).
    #[must_use]
    pub fn key_set(&self) -> Value {
        let mut jwk = json!(self.key.public);
        if let Value::Object(members) = &mut jwk {
            members.insert("kid".to_owned(), json!(self.kid));
            members.insert("use".to_owned(), json!("sig"));
            members.insert("alg".to_owned(), json!("ES384"));
        }
        json!({ "keys": [jwk] })
    }

    /// The claims that an accepted appraisal gives.
    #[must_use]
    pub fn claims(
        &self,
        appraisal: Appraisal,
        nonce: String,
        key: Option<Jwk>,
        jti: [u8; 16],
        now: i64,
    ) -> Claims {
        let policies = &appraisal.policies;
        Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(LIFETIME),
            jti: URL_SAFE_NO_PAD.encode(jti),
            nonce,
            tee: appraisal.tee.to_owned(),
            evaluation_reports: EvaluationReports {
                eval_result: true,
                policy: policies.iter().map(|policy| policy.id.clone()).collect(),
                report: policies.iter().map(|p| (p.id.clone(), json!(p.output.to_string()))).collect(),
                policy_sha256: policies.iter().map(|p| (p.id.clone(), json!(p.sha256))).collect(),
            },
            tcb_status: appraisal.tcb_status,
            cnf: key.map(|jwk| Confirmation { jwk }),
        }
    }

    /// Signs claims.
    ///
    /// # Errors
    /// [`TokenError::Signing`].
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let mut header = Header::new(Algorithm::ES384);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key.encoding).map_err(|_| TokenError::Signing)
    }

    /// Checks a token that this service is said to have issued: algorithm, signature, issuer, audience, time.
    ///
    /// # Errors
    /// [`TokenError`] says which of these failed.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(Algorithm::ES384);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        // Times are compared with the service's clock below, without leeway: it is the same clock that issued them.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded =
            jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).map_err(|e| {
                match e.kind() {
                    ErrorKind::InvalidAudience => TokenError::Audience,
                    _ => TokenError::Invalid,
                }
            })?;
        let claims = decoded.claims;
        if now < claims.nbf || now >= claims.exp {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}
