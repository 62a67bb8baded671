//! Nonces: given out to a tenant, and to one node if it asked for that; authenticated, so that strangers' are told without the
//! database; used once.
//!
//! What is authenticated is fields with their lengths: no digit can move from one into another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use service_kit::problem::Problem;
use utoipa::ToSchema;

use crate::service::{Service, no_entropy};
use crate::store::Purpose;

/// How far another instance's clock may be ahead, in seconds.
const SKEW: i64 = 60;
/// Longest nonce of a relying party, in bytes.
const MAX_USER_NONCE: usize = 1024;

/// Who made the nonce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonceType {
    /// This service.
    #[default]
    Verifier,
    /// The relying party, who alone can tell whether it is fresh.
    User,
    /// Nobody: evidence without one may be of any age.
    Ignore,
}

/// What is in a nonce; opaque to clients.
#[derive(Serialize, Deserialize)]
struct Body {
    iat: i64,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    key: String,
    signature: String,
}

impl Service {
    /// Makes a nonce for a tenant, and for this node only if one is named.
    ///
    /// # Errors
    /// 429 if too many wait for an answer.
    pub async fn issue_nonce(&self, tenant: &str, node: Option<&str>) -> Result<String, Problem> {
        let iat = self.now();
        let value = self.environment.random::<64>().map_err(no_entropy)?;
        let (key_id, key) = self.store.keys().active_mac(Purpose::Nonce).await?;
        let signature = crate::store::authenticate_nonce(&key, tenant, node, iat, &value);
        let expires_at = iat.saturating_add(self.settings.nonce_lifetime);
        if !self.store.add_nonce(tenant, node, &value, expires_at, self.settings.max_nonces).await? {
            return Err(Problem::too_many(
                "nonces_open",
                "Too many requests: too many nonces wait for an answer",
            ));
        }
        let body = Body {
            iat,
            value: STANDARD.encode(value),
            node: node.map(str::to_owned),
            key: key_id,
            signature: STANDARD.encode(signature),
        };
        let json = serde_json::to_vec(&body)
            .map_err(|_| Problem::unavailable("nonce_failed", "the nonce could not be made"))?;
        Ok(STANDARD.encode(json))
    }

    /// Checks a nonce and uses it up; gives the bytes that the quote is bound to.
    ///
    /// # Errors
    /// 400 with the texts that clients of the Global Trust Authority know.
    pub async fn take_nonce(
        &self,
        tenant: &str,
        node: &str,
        kind: NonceType,
        nonce: Option<&str>,
    ) -> Result<Vec<u8>, Problem> {
        if kind == NonceType::Ignore {
            return Err(Problem::bad_request(
                "nonce_required",
                "nonce parameter required: evidence without a nonce may be of any age, and is not taken",
            ));
        }
        let nonce =
            nonce.ok_or_else(|| Problem::bad_request("nonce_missing", "missing nonce in measurements"))?;
        let bytes = STANDARD
            .decode(nonce)
            .map_err(|_| Problem::bad_request("nonce_malformed", "failed to decode base64 nonce"))?;
        if kind == NonceType::User {
            if bytes.is_empty() || bytes.len() > MAX_USER_NONCE {
                return Err(Problem::bad_request("nonce_malformed", "invalid nonce format"));
            }
            return Ok(bytes);
        }
        let malformed = || Problem::bad_request("nonce_malformed", "invalid nonce format");
        let body: Body = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        let value = STANDARD.decode(&body.value).map_err(|_| malformed())?;
        let signature = STANDARD.decode(&body.signature).map_err(|_| malformed())?;
        let invalid = || Problem::bad_request("nonce_invalid", "Invalid nonce.");
        let key = self.store.keys().mac(Purpose::Nonce, &body.key).await?.ok_or_else(invalid)?;
        if !crate::store::is_nonce(&key, tenant, body.node.as_deref(), body.iat, &value, &signature) {
            return Err(invalid());
        }
        let now = self.now();
        if body.iat > now.saturating_add(SKEW) {
            return Err(invalid());
        }
        if now.saturating_sub(body.iat) > self.settings.nonce_lifetime {
            return Err(Problem::bad_request("nonce_expired", "Nonce expired."));
        }
        if !self.store.use_nonce(tenant, node, &value).await? {
            return Err(Problem::bad_request(
                "nonce_used",
                "Invalid nonce. It was used before, or is another node's.",
            ));
        }
        Ok(bytes)
    }
}
