//! The local REST interface for programs in the guest, compatible with secGear's agent where they overlap.
//!
//! | Request | Answer |
//! |---|---|
//! | `GET`/`POST /challenge` `{"user_data":[u8, ..]}` (optional, at most 32) | the challenge, as plain text |
//! | `GET`/`POST /evidence` `{"challenge"}` | the evidence envelope, JSON |
//! | `GET`/`POST /token` `{"challenge", "policy_id"}` | the attestation token (a JWT), as plain text |
//! | `GET`/`POST /resource/storage` `{"resource":{"vendor","path"}, "challenge", "policy_id"}` | the secret, a JSON string |
//!
//! Parameters come as a JSON body, also with `GET`. Errors are problem documents (RFC 9457) with a machine `code`.
//! Whoever reaches the listener can have everything that this guest can have: it belongs on a loopback address.

mod http;
mod sessions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::envelope::Evidence;
use jose::EphemeralKey;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use self::http::serve;
use self::http::{Body, Problem};
use self::sessions::{Session, Sessions};
use crate::client::Client;
use crate::collect::{self, EvidenceSource};
use crate::service::{self, Challenge, MAX_USER_DATA_LEN, ResourcePath};

type Answer = Result<Body, Problem>;

/// The agent as a service for programs in the same guest.
pub struct Daemon {
    client: Client,
    source: Arc<dyn EvidenceSource>,
    new_key: Box<dyn Fn() -> EphemeralKey + Send + Sync>,
    sessions: Mutex<Sessions>,
}

#[derive(Default, Deserialize)]
struct ChallengeRequest {
    user_data: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct EvidenceRequest {
    challenge: String,
    ima: Option<bool>,
    /// Its presence makes this secGear's request to verify evidence.
    evidence: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct TokenRequest {
    #[serde(default)]
    challenge: String,
    ima: Option<bool>,
    policy_id: Option<Vec<String>>,
    /// Its presence makes this secGear's request to verify a token.
    token: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ResourceRequest {
    resource: ResourcePath,
    challenge: Option<String>,
    ima: Option<bool>,
    policy_id: Option<Vec<String>>,
}

impl Daemon {
    /// A daemon that gets evidence from `source` and asks the service of `client`; `new_key` makes a fresh key pair.
    pub fn new(
        client: Client,
        source: Arc<dyn EvidenceSource>,
        new_key: Box<dyn Fn() -> EphemeralKey + Send + Sync>,
    ) -> Self {
        Self { client, source, new_key, sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Every change of the map is complete at each point where it could panic.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn challenge(&self, request: ChallengeRequest) -> Answer {
        let session = self.new_session(request.user_data.filter(|data| !data.is_empty())).await?;
        let text = session.challenge.text().to_owned();
        self.sessions().insert(session, Instant::now());
        Ok(Body::Text(text))
    }

    /// A challenge with the caller's data, or else with the thumbprint of a new key, to which a secret can be sealed.
    async fn new_session(&self, user_data: Option<Vec<u8>>) -> Result<Session, Problem> {
        let mut connection = self.client.connect().await?;
        let (key, user_data) = match user_data {
            Some(data) if data.len() > MAX_USER_DATA_LEN => {
                return Err(Problem::request(format!("user_data has more than {MAX_USER_DATA_LEN} bytes")));
            }
            Some(data) => (None, data),
            None => {
                let key = (self.new_key)();
                let thumbprint = key.public_jwk().thumbprint().to_vec();
                (Some(key), thumbprint)
            }
        };
        let challenge = service::challenge(&mut connection, &user_data).await?;
        Ok(Session::new(challenge, key))
    }

    async fn evidence(&self, request: EvidenceRequest) -> Answer {
        refuse_ima(request.ima)?;
        if request.evidence.is_some() {
            return Err(Problem::not_supported("verifying evidence; hand it to the attestation service"));
        }
        let challenge = parse_challenge(&request.challenge)?;
        Ok(Body::Json(Zeroizing::new(self.collect(&challenge).await?.to_json())))
    }

    async fn collect(&self, challenge: &Challenge) -> Result<Evidence, Problem> {
        Ok(collect::token(&self.source, *challenge.bytes()).await.map_err(crate::Error::Collect)?)
    }

    async fn token(&self, request: TokenRequest) -> Answer {
        refuse_ima(request.ima)?;
        if request.token.is_some() {
            return Err(Problem::not_supported(
                "verifying tokens; use the keys at the service's JWKS address",
            ));
        }
        // A challenge from elsewhere belongs to no session of ours; the service decides what it makes of it.
        let session = match self.sessions().get(&request.challenge, Instant::now()) {
            Some(session) => session,
            None => Arc::new(Session::new(parse_challenge(&request.challenge)?, None)),
        };
        Ok(Body::Text(self.attest(&session, request.policy_id.as_deref()).await?))
    }

    /// The session's token; a challenge serves once, so one that was got before is given again.
    async fn attest(&self, session: &Session, policy_id: Option<&[String]>) -> Result<String, Problem> {
        let mut token = session.token.lock().await;
        if let Some((policies, token)) = &*token
            && policies.as_deref() == policy_id
        {
            return Ok(token.clone());
        }
        let evidence = self.collect(&session.challenge).await?;
        let mut connection = self.client.connect().await?;
        let key = session.key.as_ref().map(EphemeralKey::public_jwk);
        let new = service::attest(&mut connection, &session.challenge, &evidence, policy_id, key).await?;
        *token = Some((policy_id.map(<[String]>::to_vec), new.clone()));
        Ok(new)
    }

    async fn resource(&self, request: ResourceRequest) -> Answer {
        refuse_ima(request.ima)?;
        let session = match &request.challenge {
            None => Arc::new(self.new_session(None).await?),
            Some(text) => self.sessions().get(text, Instant::now()).ok_or_else(Problem::foreign_challenge)?,
        };
        let key = session.key.as_ref().ok_or_else(Problem::foreign_challenge)?;
        let token = self.attest(&session, request.policy_id.as_deref()).await?;
        let mut connection = self.client.connect().await?;
        let sealed = service::resource(&mut connection, &token, &request.resource).await?;
        let secret = key.decrypt(&sealed).map_err(crate::Error::Unseal)?;
        let text = std::str::from_utf8(&secret).map_err(|_| Problem::not_text())?;
        let literal = serde_json::to_string(text).map_err(|_| Problem::not_text())?;
        Ok(Body::Json(Zeroizing::new(literal)))
    }
}

fn parse_challenge(text: &str) -> Result<Challenge, Problem> {
    Challenge::from_text(text).map_err(|problem| Problem::request(problem.to_owned()))
}

/// A caller who asks for the IMA log must not believe that it was looked at.
fn refuse_ima(ima: Option<bool>) -> Result<(), Problem> {
    if ima == Some(true) {
        return Err(Problem::not_supported("the IMA log in evidence"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
