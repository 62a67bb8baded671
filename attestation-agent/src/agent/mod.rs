//! What the agent does for programs: challenges, evidence, tokens, secrets. The REST interface and the C library are
//! two ways to ask for it.

mod apps;
mod keys;
mod sessions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::envelope::{Dialect, Evidence};
use jose::{EphemeralKey, Verified};
use serde_json::{Map, Value};
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use apps::{ActiveToken, App, AppState};
pub use keys::{KeySource, TokenRules};

use self::apps::Apps;
use self::keys::TokenChecker;
use self::sessions::{Session, Sessions};
use crate::client::Client;
use crate::collect::{self, EvidenceSource, Request};
use crate::environment::Environment;
use crate::service::{self, Challenge, MAX_USER_DATA_LEN, ResourcePath};
use crate::{Error, Result};

/// Who judges evidence.
#[derive(Clone)]
pub enum Judge {
    /// An attestation service.
    Service(Client),
    /// The agent itself, by files of this guest.
    #[cfg(feature = "local-verify")]
    Local(Arc<crate::local::LocalVerifier>),
}

/// How an agent is set up.
pub struct Setup {
    /// Who judges evidence.
    pub judge: Judge,
    /// Where evidence comes from.
    pub source: Arc<dyn EvidenceSource>,
    /// Time, randomness and keys.
    pub environment: Arc<dyn Environment>,
    /// What a token must be to hold.
    pub rules: TokenRules,
    /// How evidence is written, for services and programs.
    pub dialect: Dialect,
    /// Applications for which a token is kept at hand.
    pub apps: Vec<App>,
}

/// The agent.
pub struct Agent {
    judge: Judge,
    source: Arc<dyn EvidenceSource>,
    environment: Arc<dyn Environment>,
    checker: TokenChecker,
    dialect: Dialect,
    sessions: Mutex<Sessions>,
    apps: Apps,
}

/// What a caller wants in a challenge besides the verifier's random half.
enum Own {
    /// The thumbprint of a new key, to which a secret can be sealed.
    Key,
    /// The caller's bytes; may be none.
    Data(Vec<u8>),
}

impl Agent {
    /// An agent as it is set up.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            judge: setup.judge,
            source: setup.source,
            environment: setup.environment,
            checker: TokenChecker::new(setup.rules),
            dialect: setup.dialect,
            sessions: Mutex::default(),
            apps: Apps::new(setup.apps),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Every change of the map is complete at each point where it could panic.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn service(&self) -> Result<&Client> {
        match &self.judge {
            Judge::Service(client) => Ok(client),
            #[cfg(feature = "local-verify")]
            Judge::Local(_) => Err(Error::NotSupported(
                "tokens and secrets: it verifies evidence by itself, without an attestation service",
            )),
        }
    }

    /// A challenge with the caller's data, at most [`MAX_USER_DATA_LEN`] bytes, or else with the thumbprint of a new key.
    ///
    /// # Errors
    /// If the data is too long, or the service gives no challenge.
    pub async fn challenge(&self, user_data: Option<Vec<u8>>) -> Result<String> {
        let own = match user_data.filter(|data| !data.is_empty()) {
            Some(data) => Own::Data(data),
            None => Own::Key,
        };
        let session = self.new_session(own).await?;
        let text = session.challenge.text().to_owned();
        self.sessions().insert(session, Instant::now());
        Ok(text)
    }

    async fn new_session(&self, own: Own) -> Result<Session> {
        let (key, user_data) = match own {
            Own::Data(data) if data.len() > MAX_USER_DATA_LEN => {
                return Err(Error::Request(format!("user_data has more than {MAX_USER_DATA_LEN} bytes")));
            }
            Own::Data(data) => (None, data),
            Own::Key => {
                let key = self.environment.new_key();
                let thumbprint = key.public_jwk().thumbprint().to_vec();
                (Some(key), thumbprint)
            }
        };
        let challenge = match &self.judge {
            Judge::Service(client) => service::challenge(&mut client.connect().await?, &user_data).await?,
            #[cfg(feature = "local-verify")]
            Judge::Local(_) => {
                let mut random = [0; 32];
                self.environment.random(&mut random);
                Challenge::from_parts(&random, &user_data)
            }
        };
        Ok(Session::new(challenge, key))
    }

    /// The session of a challenge. One from elsewhere belongs to no session of ours; the verifier decides what it makes of
    /// it.
    fn session(&self, challenge: &str) -> Result<Arc<Session>> {
        let known = self.sessions().get(challenge, Instant::now());
        match known {
            Some(session) => Ok(session),
            None => Ok(Arc::new(Session::new(parse_challenge(challenge)?, None))),
        }
    }

    /// Evidence for a challenge, as JSON.
    ///
    /// # Errors
    /// If the challenge is malformed, or there is no evidence.
    pub async fn evidence(&self, challenge: &str, ima: bool) -> Result<String> {
        let challenge = parse_challenge(challenge)?;
        Ok(self.collect(*challenge.bytes(), ima).await?.to_json_as(self.dialect))
    }

    async fn collect(&self, challenge: [u8; 64], ima: bool) -> Result<Evidence> {
        Ok(collect::collect(&self.source, Request { challenge, ima }).await?)
    }

    /// What evidence of this guest or another proves (the background-check flow): the claims of the service's token, whose
    /// signature and validity are checked, or the claims of the local verifier. Whether they suffice is in
    /// `evaluation_reports.eval_result`.
    ///
    /// # Errors
    /// If the evidence is refused, or the service's answer does not hold.
    pub async fn verify_evidence(
        &self,
        challenge: &str,
        evidence: &str,
        policy_id: Option<&[String]>,
    ) -> Result<Map<String, Value>> {
        let session = self.session(challenge)?;
        match &self.judge {
            Judge::Service(client) => {
                let mut connection = client.connect().await?;
                let token =
                    service::attest(&mut connection, &session.challenge, evidence, policy_id, None).await?;
                Ok(self.checker.verify(Some(client), &token, self.environment.now()).await?.claims)
            }
            #[cfg(feature = "local-verify")]
            Judge::Local(local) => {
                if policy_id.is_some() {
                    return Err(Error::NotSupported(
                        "policy_id: local verification has one policy, in its files",
                    ));
                }
                let (local, now) = (local.clone(), self.environment.now());
                let (challenge, evidence) = (*session.challenge.bytes(), evidence.to_owned());
                tokio::task::spawn_blocking(move || local.verify(&challenge, &evidence, now))
                    .await
                    .map_err(|error| Error::Collect(collect::CollectError::Interrupted(error)))?
            }
        }
    }

    /// An attestation token for a challenge (the passport flow).
    ///
    /// # Errors
    /// If there is no evidence, or the service refuses it.
    pub async fn token(&self, challenge: &str, ima: bool, policy_id: Option<&[String]>) -> Result<String> {
        let session = self.session(challenge)?;
        self.attest(&session, ima, policy_id).await
    }

    /// Whether a token holds: header and claims.
    ///
    /// # Errors
    /// If it does not.
    pub async fn verify_token(&self, token: &str) -> Result<Verified> {
        self.checker.verify(self.service().ok(), token, self.environment.now()).await
    }

    /// The session's token; a challenge serves once, so one that was got before is given again.
    async fn attest(&self, session: &Session, ima: bool, policy_id: Option<&[String]>) -> Result<String> {
        let client = self.service()?;
        let asked = sessions::Asked { ima, policy_id: policy_id.map(<[String]>::to_vec) };
        let mut token = session.token.lock().await;
        if let Some((before, token)) = &*token
            && *before == asked
        {
            return Ok(token.clone());
        }
        let evidence = self.collect(*session.challenge.bytes(), ima).await?.to_json_as(self.dialect);
        let mut connection = client.connect().await?;
        let key = session.key.as_ref().map(EphemeralKey::public_jwk);
        let new = service::attest(&mut connection, &session.challenge, &evidence, policy_id, key).await?;
        *token = Some((asked, new.clone()));
        Ok(new)
    }

    /// A secret, released to a key of this agent.
    ///
    /// # Errors
    /// If the challenge carries no key of this agent, or the service refuses.
    pub async fn resource(
        &self,
        resource: &ResourcePath,
        challenge: Option<&str>,
        ima: bool,
        policy_id: Option<&[String]>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let client = self.service()?;
        let session = match challenge {
            None => Arc::new(self.new_session(Own::Key).await?),
            Some(text) => self.sessions().get(text, Instant::now()).ok_or(Error::ChallengeNotBound)?,
        };
        let key = session.key.as_ref().ok_or(Error::ChallengeNotBound)?;
        let token = self.attest(&session, ima, policy_id).await?;
        let mut connection = client.connect().await?;
        let sealed = service::resource(&mut connection, &token, resource).await?;
        key.decrypt(&sealed).map_err(Error::Unseal)
    }
}

fn parse_challenge(text: &str) -> Result<Challenge> {
    Challenge::from_text(text).map_err(|problem| Error::Request(problem.to_owned()))
}
