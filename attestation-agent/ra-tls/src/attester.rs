//! What attests a key of this end.

use std::pin::Pin;

use agent_client::AgentClient;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::binding::NONCE_LEN;
use crate::{Error, Flow};

/// A boxed future, so that attesters can be chosen at run time.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Evidence or a token for a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The challenge, base64url: a nonce and the user data.
    pub challenge: String,
    /// Evidence (JSON) or a token (JWT).
    pub quote: String,
}

/// Something that proves what this end is.
pub trait Attester: Send + Sync {
    /// What [`Attester::attest`] gives.
    fn flow(&self) -> Flow;
    /// Attests `user_data`, under the peer's `nonce` or else under one of the attestation service.
    fn attest(
        &self,
        user_data: [u8; 32],
        nonce: Option<[u8; NONCE_LEN]>,
    ) -> Future<'_, Result<Attestation, Error>>;
}

/// The attestation agent of this guest.
#[derive(Debug, Clone)]
pub struct AgentAttester {
    agent: AgentClient,
    flow: Flow,
}

impl AgentAttester {
    /// Asks `agent` for evidence or for tokens.
    #[must_use]
    pub const fn new(agent: AgentClient, flow: Flow) -> Self {
        Self { agent, flow }
    }
}

impl Attester for AgentAttester {
    fn flow(&self) -> Flow {
        self.flow
    }

    fn attest(
        &self,
        user_data: [u8; 32],
        nonce: Option<[u8; NONCE_LEN]>,
    ) -> Future<'_, Result<Attestation, Error>> {
        let failed = |error: agent_client::Error| Error::Attest(error.into());
        Box::pin(async move {
            let challenge = match nonce {
                Some(nonce) => URL_SAFE_NO_PAD.encode([nonce, user_data].concat()),
                None => self.agent.challenge(&user_data).await.map_err(failed)?,
            };
            let quote = match self.flow {
                Flow::Background => self.agent.evidence(&challenge, "ra-tls", false).await,
                Flow::Passport => self.agent.token(&challenge, None).await,
            };
            Ok(Attestation { challenge, quote: quote.map_err(failed)? })
        })
    }
}
