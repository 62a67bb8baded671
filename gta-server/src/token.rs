//! Result tokens: JWTs that anybody can verify with the published keys.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Map, Value, json};
use service_kit::problem::Problem;
use service_kit::signing::Algorithm;

use crate::service::Service;

/// Longest token that is verified, in bytes.
const MAX_TOKEN: usize = 5 << 20;

/// Why a token does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not ours, or altered.
    #[error("Token is not issued by this service, or its key was taken away.")]
    NotOurs,
    /// Too old.
    #[error("Token is expired.")]
    Expired,
    /// Not valid yet.
    #[error("Token is not valid yet.")]
    Immature,
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Its claims.
    pub body: Value,
    /// Its header.
    pub header: Value,
}

impl Service {
    /// Signs claims, with those that every token has.
    ///
    /// # Errors
    /// 503 if there is no key.
    pub async fn sign_token(&self, mut claims: Map<String, Value>) -> Result<String, Problem> {
        let now = self.now();
        for (name, value) in [
            ("iss", json!(self.settings.issuer)),
            ("iat", json!(now)),
            ("nbf", json!(now)),
            ("exp", json!(now.saturating_add(self.settings.token_lifetime))),
            ("jti", json!(self.new_id()?)),
            ("ver", json!("1.0")),
        ] {
            claims.insert(name.to_owned(), value);
        }
        let key = self.store.keys().active_signing().await?;
        key.sign(&claims).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "token");
            Problem::unavailable("signing_failed", "the service cannot sign tokens now")
        })
    }

    /// Checks a token that this service is said to have issued: key, algorithm, signature, issuer, time.
    ///
    /// # Errors
    /// 503 if the keys cannot be read.
    pub async fn verify_token(&self, token: &str) -> Result<Result<Verified, TokenRefusal>, Problem> {
        let keys = self.store.keys().public().await?;
        let now = self.now();
        Ok(verify(token, &keys, &self.settings.issuer, now))
    }
}

fn verify(token: &str, keys: &[Value], issuer: &str, now: i64) -> Result<Verified, TokenRefusal> {
    if token.len() > MAX_TOKEN {
        return Err(TokenRefusal::NotOurs);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenRefusal::NotOurs)?;
    let kid = header.kid.as_deref().ok_or(TokenRefusal::NotOurs)?;
    let key =
        keys.iter().find(|key| key.get("kid").is_some_and(|id| id == kid)).ok_or(TokenRefusal::NotOurs)?;
    let key: Jwk = serde_json::from_value(key.clone()).map_err(|_| TokenRefusal::NotOurs)?;
    let key = DecodingKey::from_jwk(&key).map_err(|_| TokenRefusal::NotOurs)?;
    // The key's algorithm and no other, whatever the token's header says.
    let mut validation = Validation::new(Algorithm::Es384.jwt());
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["iss"]);
    validation.validate_aud = false;
    // Compared with the service's clock below.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let decoded =
        jsonwebtoken::decode::<Value>(token, &key, &validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenRefusal::Expired,
            _ => TokenRefusal::NotOurs,
        })?;
    let time = |claim: &str| decoded.claims.get(claim).and_then(Value::as_i64).ok_or(TokenRefusal::NotOurs);
    if now >= time("exp")? {
        return Err(TokenRefusal::Expired);
    }
    if now < time("nbf")? {
        return Err(TokenRefusal::Immature);
    }
    let header = json!({ "alg": decoded.header.alg, "typ": decoded.header.typ, "kid": decoded.header.kid });
    Ok(Verified { body: decoded.claims, header })
}
