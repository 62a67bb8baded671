//! Tokens and evidence for programs that ask: the interface of the Global Trust Authority's agent.
//!
//! | Request | Answer |
//! |---|---|
//! | `POST /global-trust-authority/agent/v1/tokens` `{"attester_info", "attester_data", "token_fmt"}` | `{"token", "attestation_status", "reasons"}` |
//! | `POST /global-trust-authority/agent/v1/evidences` `{"attesters", "nonce_type", "nonce", "attester_data", "token_fmt"}` | what `POST /attest` of the authority takes |
//! | `/health` | `{"status": "ok"}` |
//!
//! A token is always fresh: one of before would be bound to what somebody else wanted. Logs always go along.
//! Whoever reaches a listener can have this machine's tokens: it belongs on loopback and Unix sockets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::attest::Attester;
use super::machine::{Challenge, Machine};
use super::measurement::{AttesterType, NonceType, TokenFormat};
use crate::rest::{Body, Bounds, Interface, Problem};

const TOKENS: &str = "/global-trust-authority/agent/v1/tokens";
const EVIDENCES: &str = "/global-trust-authority/agent/v1/evidences";
const HEALTH: &str = "/health";
/// Longest body read, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Longest nonce, in bytes: GTA's value.
const MAX_NONCE: usize = 1024;
/// Most policies that can be named.
const MAX_POLICIES: usize = 10;

/// Answers programs.
pub struct Responder(pub Attester);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A token.
    Tokens,
    /// Evidence.
    Evidences,
    /// Whether the agent runs.
    Health,
}

#[derive(Deserialize)]
struct TokenRequest {
    attester_info: Option<Vec<Wanted>>,
    attester_data: Option<Value>,
    token_fmt: Option<TokenFormat>,
}

#[derive(Deserialize)]
struct EvidenceRequest {
    attesters: Option<Vec<Wanted>>,
    #[serde(default)]
    nonce_type: NonceType,
    nonce: String,
    attester_data: Option<Value>,
    token_fmt: Option<TokenFormat>,
}

#[derive(Deserialize)]
struct Wanted {
    attester_type: Option<AttesterType>,
    #[serde(default)]
    policy_ids: Vec<String>,
}

impl Interface for Responder {
    type Path = Path;

    fn paths() -> Vec<&'static str> {
        vec![TOKENS, EVIDENCES, HEALTH]
    }

    fn find(path: &str) -> Option<Path> {
        match path {
            TOKENS => Some(Path::Tokens),
            EVIDENCES => Some(Path::Evidences),
            HEALTH => Some(Path::Health),
            _ => None,
        }
    }

    fn bounds(path: Path) -> Bounds {
        // A TPM takes up to a second for each quote.
        let costs = path != Path::Health;
        Bounds { body: MAX_BODY, takes_turns: costs, scarce: costs }
    }

    async fn answer(&self, path: Path, _query: Option<&str>, body: &[u8]) -> Result<Body, Problem> {
        match path {
            Path::Health => Ok(Body::json(&json!({ "status": "ok" }))),
            Path::Tokens => self.token(read(body)?).await,
            Path::Evidences => self.evidence(read(body)?).await,
        }
    }
}

impl Responder {
    async fn token(&self, request: TokenRequest) -> Result<Body, Problem> {
        let mut attester = self.0.for_one_program();
        narrow(&mut attester.machine, request.attester_info, request.token_fmt)?;
        let outcome = attester.enrol_and_attest(request.attester_data.as_ref()).await?;
        Ok(Body::json(&json!({
            "token": outcome.token,
            "attestation_status": if outcome.accepted { "pass" } else { "fail" },
            "reasons": outcome.reasons,
        })))
    }

    async fn evidence(&self, request: EvidenceRequest) -> Result<Body, Problem> {
        let nonce = STANDARD.decode(&request.nonce).ok();
        let nonce = nonce.filter(|nonce| (1..=MAX_NONCE).contains(&nonce.len())).ok_or_else(|| {
            Problem::request(format!("nonce has 1 to {MAX_NONCE} bytes, in standard base64"))
        })?;
        let mut attester = self.0.for_one_program();
        narrow(&mut attester.machine, request.attesters, request.token_fmt)?;
        let challenge =
            Challenge { nonce_type: request.nonce_type, nonce, attester_data: request.attester_data };
        let collected = attester.on_machine(move |machine| machine.answer(&challenge, None)).await?;
        let text = serde_json::to_string(&collected.request)
            .map_err(|error| crate::Error::Request(error.to_string()))?;
        Ok(Body::Json(Zeroizing::new(text)))
    }
}

/// Attests what is wanted of what is configured, under further policies.
fn narrow(
    machine: &mut Machine,
    wanted: Option<Vec<Wanted>>,
    format: Option<TokenFormat>,
) -> Result<(), Problem> {
    machine.token_format = format.unwrap_or(machine.token_format);
    let Some(wanted) = wanted else { return Ok(()) };
    let mut kinds = Vec::new();
    for Wanted { attester_type, policy_ids } in wanted {
        machine.policy_ids.extend(policy_ids);
        let Some(kind) = attester_type else { continue };
        if !machine.attesters.contains(&kind) {
            return Err(Problem::request(format!("this agent does not attest {}", kind.name())));
        }
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    machine.policy_ids.sort_unstable();
    machine.policy_ids.dedup();
    if machine.policy_ids.len() > MAX_POLICIES {
        return Err(Problem::request(format!("at most {MAX_POLICIES} policies can be named")));
    }
    if !kinds.is_empty() {
        machine.attesters = kinds;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(if body.is_empty() { b"{}" } else { body })
        .map_err(|error| Problem::request(format!("the body is not what this request takes: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gta::Options;

    fn machine() -> Machine {
        Options { node_id: Some("n".to_owned()), ..Options::default() }.machine().unwrap()
    }

    fn narrowed(text: &str) -> Result<Machine, Problem> {
        let request: TokenRequest = read(text.as_bytes())?;
        let mut machine = machine();
        narrow(&mut machine, request.attester_info, request.token_fmt)?;
        Ok(machine)
    }

    #[test]
    fn a_program_can_have_less_than_is_configured_and_never_more() {
        let all = narrowed("").unwrap();
        assert_eq!(all.attesters, [AttesterType::TpmBoot, AttesterType::TpmIma]);
        let text = r#"{"attester_info": [{"attester_type": "tpm_ima", "policy_ids": ["b", "a"], "log_types": []}],
            "token_fmt": "ear", "challenge": true}"#;
        let some = narrowed(text).unwrap();
        assert_eq!(some.attesters, [AttesterType::TpmIma]);
        assert_eq!((some.policy_ids.join(","), some.token_format), ("a,b".to_owned(), TokenFormat::Ear));
        for wrong in [
            r#"{"attester_info": [{"attester_type": "virt_cca"}]}"#,
            r#"{"attester_info": [{"attester_type": "tpm_dim"}]}"#,
            r#"{"attester_info": [{"policy_ids": ["0","1","2","3","4","5","6","7","8","9","10"]}]}"#,
            "[]",
        ] {
            assert!(narrowed(wrong).is_err(), "{wrong}");
        }
        // Policies that are configured are not left out.
        let mut strict = machine();
        strict.policy_ids = vec!["mine".to_owned()];
        narrow(&mut strict, Some(vec![]), None).unwrap();
        assert_eq!(strict.policy_ids, ["mine"]);
    }
}
