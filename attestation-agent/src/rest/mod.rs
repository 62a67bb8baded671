//! The REST interface for programs in the guest; secGear's, on the wire.
//!
//! | Request | Answer |
//! |---|---|
//! | `/challenge` `{"user_data":[u8, ..]}` (optional, at most 32) | the challenge, as plain text |
//! | `/evidence` `{"challenge", "ima"}` | evidence, JSON |
//! | `POST /evidence` `{"challenge", "evidence", "policy_id"}` | what the evidence proves: claims, JSON |
//! | `/token` `{"challenge", "ima", "policy_id"}` | the attestation token (a JWT), as plain text |
//! | `POST /token` `{"token"}` | `{"header", "claim"}`, both JSON as text, if the token holds |
//! | `/resource/storage` `{"resource":{"vendor","path"}, "challenge", "ima", "policy_id"}` | the secret, a JSON string |
//! | `/current_token` | `{"apps":[..]}`: how it stands with cached tokens |
//! | `/active_token?uuid=&nonce=` | a cached token, and a token of the monitor over the nonce |
//!
//! Parameters come as a JSON body, with `GET` (as secGear's clients do) or with `POST`, or in the query; other members, such
//! as secGear's `uuid`, are passed over. Errors are problem documents (RFC 9457) with a machine `code`.
//! Whoever reaches a listener can have everything that this guest can have: it belongs on loopback and Unix sockets.

mod call;
mod listen;
mod peers;
mod problem;
mod serve;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::call::{Call, Path, read};
pub use self::listen::{ListenAddress, Listener};
pub use self::problem::Problem;
pub use self::serve::{Bounds, Interface, serve};
use crate::agent::Agent;

/// What is answered with status 200.
pub enum Body {
    /// Plain text.
    Text(String),
    /// JSON.
    Json(Zeroizing<String>),
}

impl Body {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Json(Zeroizing::new(value.to_string()))
    }
}

impl Interface for Agent {
    type Path = Path;

    fn paths() -> Vec<&'static str> {
        Path::ALL.map(|(name, _)| name).to_vec()
    }

    fn find(path: &str) -> Option<Path> {
        Path::find(path)
    }

    fn bounds(path: Path) -> Bounds {
        Bounds {
            body: path.body_limit(),
            takes_turns: path == Path::Evidence,
            scarce: path == Path::ActiveToken,
        }
    }

    async fn answer(&self, path: Path, query: Option<&str>, body: &[u8]) -> Result<Body, Problem> {
        answer(self, read(path, query, body)?).await
    }
}

async fn answer(agent: &Agent, call: Call) -> Result<Body, Problem> {
    Ok(match call {
        Call::Challenge(user_data) => Body::Text(agent.challenge(user_data).await?),
        Call::Evidence { challenge, ima } => {
            Body::Json(Zeroizing::new(agent.evidence(&challenge, ima).await?))
        }
        Call::VerifyEvidence { challenge, evidence, policy_id } => Body::json(&Value::Object(
            agent.verify_evidence(&challenge, &evidence, policy_id.as_deref()).await?,
        )),
        Call::Token { challenge, ima, policy_id } => {
            Body::Text(agent.token(&challenge, ima, policy_id.as_deref()).await?)
        }
        Call::VerifyToken(token) => {
            let verified = agent.verify_token(&token).await?;
            let claim = Value::Object(verified.claims).to_string();
            Body::json(&json!({ "header": verified.header.to_string(), "claim": claim }))
        }
        Call::Resource { resource, challenge, ima, policy_id } => {
            let secret = agent.resource(&resource, challenge.as_deref(), ima, policy_id.as_deref()).await?;
            let text = std::str::from_utf8(&secret).map_err(|_| crate::Error::SecretNotText)?;
            let literal = serde_json::to_string(text).map_err(|_| crate::Error::SecretNotText)?;
            Body::Json(Zeroizing::new(literal))
        }
        Call::CurrentToken => Body::json(&json!({ "apps": agent.current_tokens() })),
        Call::ActiveToken { uuid, nonce } => {
            let active = agent.active_token(&uuid, nonce).await?;
            Body::json(&json!({
                "jwt_token": active.jwt,
                "expires_at": active.expires_at,
                "ttl_seconds": active.ttl_seconds,
                "cvm_token": STANDARD.encode(active.monitor_token),
                "dev_cert": active.device_certificate.map(|bytes| STANDARD.encode(bytes)),
                "error": null,
                "failure_count": active.failure_count,
            }))
        }
    })
}

#[cfg(test)]
mod tests;
