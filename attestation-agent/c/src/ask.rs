//! The agent, asked and waited for.

use agent_client::{AgentClient, Endpoint, Error};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Names the agent's address.
const AGENT_VARIABLE: &str = "ATTESTATION_AGENT";
/// Longest challenge, in bytes: what tokens have room for.
const MAX_CHALLENGE_LEN: usize = 64;

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// What the caller passed.
    Argument(String),
    /// What the agent said, or that it said nothing.
    Agent(Error),
    /// No thread or no memory.
    Resources(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Argument(problem) | Self::Resources(problem) => f.write_str(problem),
            Self::Agent(error) => {
                write!(f, "{error}")?;
                let mut source = std::error::Error::source(error);
                while let Some(error) = source {
                    write!(f, ": {error}")?;
                    source = error.source();
                }
                Ok(())
            }
        }
    }
}

/// Evidence (JSON) for a challenge (base64url).
pub fn report(challenge: &str, uuid: &str, ima: bool) -> Result<String, Failure> {
    ask(async |agent| agent.evidence(challenge, uuid, ima).await)
}

/// The claims (JSON) that evidence proves.
pub fn verify(challenge: &str, report: &str) -> Result<String, Failure> {
    ask(async |agent| agent.verify_evidence(challenge, report, None).await)
        .map(|claims| serde_json::Value::Object(claims).to_string())
}

/// The text of a challenge that C has as bytes.
pub fn challenge_text(challenge: &[u8]) -> Result<String, Failure> {
    if (32..=MAX_CHALLENGE_LEN).contains(&challenge.len()) {
        return Ok(URL_SAFE_NO_PAD.encode(challenge));
    }
    Err(Failure::Argument(format!(
        "the challenge has {} bytes; 32 to {MAX_CHALLENGE_LEN} were expected",
        challenge.len()
    )))
}

/// Text that C passed.
pub fn text<'a>(name: &str, bytes: Option<&'a [u8]>) -> Result<&'a str, Failure> {
    let bytes = bytes.ok_or_else(|| Failure::Argument(format!("{name} is null")))?;
    // secGear's own example terminates what has a length.
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| Failure::Argument(format!("{name} is not UTF-8 text")))
}

fn ask<T>(question: impl AsyncFnOnce(&AgentClient) -> Result<T, Error>) -> Result<T, Failure> {
    let endpoint = match std::env::var(AGENT_VARIABLE) {
        Ok(text) => text.parse().map_err(|error| Failure::Argument(format!("{AGENT_VARIABLE}: {error}")))?,
        Err(_) => Endpoint::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Resources(format!("cannot wait for the agent: {error}")))?;
    runtime.block_on(question(&AgentClient::new(endpoint))).map_err(Failure::Agent)
}
