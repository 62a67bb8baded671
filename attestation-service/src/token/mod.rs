//! Attestation tokens: JWTs signed with ES384, or PS256 for secGear's clients, whose claims a secGear relying party also
//! understands.

mod ring;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jose::Jwk;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use verifier::Appraisal;
use verifier::result::{Ear, EvaluationReports, Spelling, VerifierId};

use self::ring::KeyRing;
pub use self::ring::{LEAD, context};
use crate::environment::Environment;
use crate::problem::Problem;
use crate::store::{Store, StoreError};
use crate::vault::{Vault, VaultError};
use service_kit::signing::SigningError;
pub use service_kit::signing::{Algorithm, SigningKey};

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
    /// Policy name to the SHA-256 of its text, for every policy that applied.
    #[serde(default)]
    pub policy_sha256: Map<String, Value>,
    /// The attested key (RFC 7800): the holder has its private half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// The claims of an EAR, for those who asked for one.
    #[serde(flatten)]
    pub ear: Map<String, Value>,
}

/// The form in which a result is told. Claims that resource policies look at are in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// secGear's claims.
    #[default]
    SecGear,
    /// These, and those of an EAT Attestation Result.
    Ear,
}

/// What a token is to be issued about.
pub struct Issue {
    /// The appraisal that accepted the evidence.
    pub appraisal: Appraisal,
    /// The policies that the client named.
    pub requested: Vec<String>,
    /// The bytes that the evidence answered, as they were issued, in base64url.
    pub nonce: String,
    /// The attested key.
    pub key: Option<Jwk>,
    /// The form.
    pub form: Form,
}

/// RFC 7800 section 3.2, with the thumbprint of RFC 9449 section 6.1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confirmation {
    /// The public key.
    pub jwk: Jwk,
    /// Its RFC 7638 thumbprint, base64url.
    pub jkt: String,
}

impl From<Jwk> for Confirmation {
    fn from(jwk: Jwk) -> Self {
        let jkt = URL_SAFE_NO_PAD.encode(jwk.thumbprint());
        Self { jwk, jkt }
    }
}

/// Why a token could not be issued or was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
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
    /// Not one of ours.
    #[error("a token is signed with ES384 or PS256")]
    Algorithm,
    /// It could not be made.
    #[error("the token could not be signed")]
    Signing,
    /// There is no key to sign with.
    #[error("a token signing key could not be made or read")]
    Key,
    /// The key is sealed.
    #[error("a token signing key could not be sealed or opened")]
    Vault(#[source] Arc<VaultError>),
    /// The keys are in the database.
    #[error("the token signing keys cannot be read")]
    Store(#[source] Arc<StoreError>),
}

impl From<SigningError> for TokenError {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Algorithm => Self::Algorithm,
            SigningError::Key => Self::Key,
            SigningError::Signing => Self::Signing,
        }
    }
}

impl From<VaultError> for TokenError {
    fn from(error: VaultError) -> Self {
        Self::Vault(Arc::new(error))
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = match &error {
            TokenError::Invalid => "token_invalid",
            TokenError::Audience => "token_audience",
            TokenError::Expired => "token_expired",
            TokenError::Algorithm => {
                return Self::bad_request("token_algorithm_unknown", error.to_string());
            }
            TokenError::Signing | TokenError::Key | TokenError::Vault(_) | TokenError::Store(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "token");
                return Self::unavailable("signing_failed", "the service cannot sign or check tokens now");
            }
        };
        Self::unauthorized(code, error.to_string())
    }
}

/// What tokens say and how they are signed.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// Their issuer.
    pub issuer: String,
    /// Their audience.
    pub audience: String,
    /// How long they are valid, in seconds.
    pub lifetime: i64,
    /// How they are signed unless a client asks for something else.
    pub algorithm: Algorithm,
    /// After how many seconds a new key signs; 0 for never.
    pub rotation: i64,
    /// What they call virtCCA.
    pub spelling: Spelling,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            issuer: "redoubt".to_owned(),
            audience: "redoubt".to_owned(),
            lifetime: LIFETIME,
            algorithm: Algorithm::Es384,
            rotation: 30 * 24 * 3600,
            spelling: Spelling::default(),
        }
    }
}

/// Issues and checks the service's own tokens.
pub struct Tokens {
    ring: KeyRing,
    settings: TokenSettings,
}

impl Tokens {
    /// Tokens signed with keys that are in `store`, sealed in `vault`.
    #[must_use]
    pub fn new(store: Store, vault: Vault, environment: Environment, settings: TokenSettings) -> Self {
        Self { ring: KeyRing::new(store, vault, environment), settings }
    }

    /// What tokens say and how they are signed.
    #[must_use]
    pub const fn settings(&self) -> &TokenSettings {
        &self.settings
    }

    /// The public keys, as a JWK set (RFC 7517 section 5): those that sign, will sign, and have signed tokens that are
    /// still valid.
    ///
    /// # Errors
    /// [`TokenError::Store`].
    pub async fn key_set(&self) -> Result<Value, TokenError> {
        self.ring.key_set().await
    }

    /// Makes the first key, those that are due, and forgets those whose last token has expired.
    ///
    /// # Errors
    /// [`TokenError`] if the database or the vault cannot be used.
    pub async fn maintain(&self) -> Result<(), TokenError> {
        self.ring.active(self.settings.algorithm).await?;
        self.ring.maintain(&self.settings).await
    }

    /// Makes a key that signs from `activates_at` on, by order of `actor`; gives its name.
    ///
    /// # Errors
    /// [`TokenError`] if the database or the vault cannot be used.
    pub async fn rotate(
        &self,
        algorithm: Algorithm,
        activates_at: i64,
        actor: &str,
    ) -> Result<String, TokenError> {
        self.ring.rotate(algorithm, activates_at, actor).await
    }

    /// The claims that an accepted appraisal gives.
    #[must_use]
    pub fn claims(&self, issue: Issue, jti: [u8; 16], now: i64) -> Claims {
        let Issue { appraisal, requested, nonce, key, form } = issue;
        Claims {
            iss: self.settings.issuer.clone(),
            aud: self.settings.audience.clone(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(self.settings.lifetime),
            jti: URL_SAFE_NO_PAD.encode(jti),
            tee: self.settings.spelling.name(appraisal.tee).to_owned(),
            evaluation_reports: EvaluationReports::new(&appraisal, requested),
            policy_sha256: appraisal.policies.iter().map(|p| (p.id.clone(), json!(p.sha256))).collect(),
            ear: match form {
                Form::SecGear => Map::new(),
                Form::Ear => self.ear(&appraisal, &nonce),
            },
            nonce,
            tcb_status: appraisal.tcb_status,
            cnf: key.map(Confirmation::from),
        }
    }

    fn ear(&self, appraisal: &Appraisal, nonce: &str) -> Map<String, Value> {
        let build = concat!("attestation-service ", env!("CARGO_PKG_VERSION")).to_owned();
        let verifier = VerifierId { developer: self.settings.issuer.clone(), build };
        let Value::Object(mut claims) = json!(Ear::new(appraisal, verifier)) else { return Map::new() };
        claims.insert("eat_nonce".to_owned(), json!(nonce));
        claims
    }

    /// Signs claims.
    ///
    /// # Errors
    /// [`TokenError`] if there is no key to sign with.
    pub async fn sign(&self, claims: &Claims, algorithm: Algorithm) -> Result<String, TokenError> {
        Ok(self.ring.active(algorithm).await?.sign(claims)?)
    }

    /// Checks a token that this service is said to have issued: key, algorithm, signature, issuer, audience, time.
    ///
    /// # Errors
    /// [`TokenError`] says which of these failed.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        // The database is asked every time: a key that was taken away counts nowhere from that moment on.
        let (algorithm, public) = self.ring.public(&kid).await?.ok_or(TokenError::Invalid)?;
        let public: jsonwebtoken::jwk::Jwk = serde_json::from_value(public).map_err(|_| TokenError::Key)?;
        let decoding = DecodingKey::from_jwk(&public).map_err(|_| TokenError::Key)?;
        // The key's algorithm and no other, whatever the token's header says.
        let mut validation = Validation::new(algorithm.jwt());
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        // Times are compared with the service's clock below, without leeway: it is the same clock that issued them.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded =
            jsonwebtoken::decode::<Claims>(token, &decoding, &validation).map_err(|e| match e.kind() {
                ErrorKind::InvalidAudience => TokenError::Audience,
                _ => TokenError::Invalid,
            })?;
        let claims = decoded.claims;
        if now < claims.nbf || now >= claims.exp {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}
