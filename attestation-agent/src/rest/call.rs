//! From the parts of a request to what is asked. Pure, and fed by whoever reaches the listener.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::envelope::MAX_ENVELOPE_SIZE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use crate::service::ResourcePath;

/// Longest request body of most calls, in bytes. They carry a challenge and a name; without the bound any program in the
/// guest could make the agent run out of memory.
const MAX_BODY_LEN: usize = 64 * 1024;
/// Longest body with evidence to verify: evidence as text in JSON, whose quotes are escaped.
const MAX_EVIDENCE_BODY_LEN: usize = MAX_ENVELOPE_SIZE + MAX_ENVELOPE_SIZE / 4;
/// Most parameters of a query; each is kept.
const MAX_PARAMETERS: usize = 32;
/// Most policies that one request can name.
const MAX_POLICIES: usize = 16;
/// Longest name of a policy or application, in bytes.
const MAX_NAME_LEN: usize = 256;

/// The calls of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// `/challenge`
    Challenge,
    /// `/evidence`
    Evidence,
    /// `/token`
    Token,
    /// `/resource/storage`
    Resource,
    /// `/current_token`
    CurrentToken,
    /// `/active_token`
    ActiveToken,
}

impl Path {
    /// Every path.
    pub const ALL: [(&str, Self); 6] = [
        ("/challenge", Self::Challenge),
        ("/evidence", Self::Evidence),
        ("/token", Self::Token),
        ("/resource/storage", Self::Resource),
        ("/current_token", Self::CurrentToken),
        ("/active_token", Self::ActiveToken),
    ];

    /// The call at `path`.
    #[must_use]
    pub fn find(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(name, call)| (name == path).then_some(call))
    }

    /// Longest body that the call reads, in bytes.
    #[must_use]
    pub const fn body_limit(self) -> usize {
        match self {
            Self::Evidence => MAX_EVIDENCE_BODY_LEN,
            _ => MAX_BODY_LEN,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A challenge with the caller's data or a new key.
    Challenge(Option<Vec<u8>>),
    /// Evidence of this guest.
    Evidence {
        /// What it must answer.
        challenge: String,
        /// Whether the IMA log must go along.
        ima: bool,
    },
    /// What evidence proves.
    VerifyEvidence {
        /// What it must answer.
        challenge: String,
        /// Evidence, JSON.
        evidence: String,
        /// The policies to apply.
        policy_id: Option<Vec<String>>,
    },
    /// A token about this guest.
    Token {
        /// What the evidence must answer.
        challenge: String,
        /// Whether the IMA log must go along.
        ima: bool,
        /// The policies to apply.
        policy_id: Option<Vec<String>>,
    },
    /// Whether a token holds.
    VerifyToken(String),
    /// A secret.
    Resource {
        /// Its name.
        resource: ResourcePath,
        /// A challenge of this agent, or a new one.
        challenge: Option<String>,
        /// Whether the IMA log must go along.
        ima: bool,
        /// The policies to apply.
        policy_id: Option<Vec<String>>,
    },
    /// How it stands with cached tokens.
    CurrentToken,
    /// A cached token with a fresh one of the monitor.
    ActiveToken {
        /// The application.
        uuid: String,
        /// What the monitor's token must answer.
        nonce: [u8; 32],
    },
}

#[derive(Default, Deserialize)]
struct ChallengeBody {
    user_data: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct EvidenceBody {
    challenge: String,
    ima: Option<bool>,
    /// Its presence makes this the request to verify evidence.
    evidence: Option<String>,
    policy_id: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct TokenBody {
    challenge: Option<String>,
    ima: Option<bool>,
    policy_id: Option<Vec<String>>,
    /// Its presence makes this the request to verify a token.
    token: Option<String>,
}

#[derive(Deserialize)]
struct ResourceBody {
    resource: ResourcePath,
    challenge: Option<String>,
    ima: Option<bool>,
    policy_id: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ActiveBody {
    uuid: Option<String>,
    nonce: Option<String>,
}

/// Reads the parameters of a call, from the query or from the body.
///
/// # Errors
/// If they are in both, malformed, or missing.
pub fn read(path: Path, query: Option<&str>, body: &[u8]) -> Result<Call, Problem> {
    let query = query.filter(|query| !query.is_empty());
    let from_query = match query {
        Some(_) if !body.is_empty() => {
            return Err(Problem::request("parameters are in the query and in the body; give one".to_owned()));
        }
        Some(query) => Some(parameters(path, query)?),
        None => None,
    };
    match path {
        Path::Challenge => {
            let body: ChallengeBody = match from_query {
                None if body.is_empty() => ChallengeBody::default(),
                from_query => parse(from_query, body)?,
            };
            Ok(Call::Challenge(body.user_data))
        }
        Path::Evidence => {
            let EvidenceBody { challenge, ima, evidence, policy_id } = parse(from_query, body)?;
            Ok(match evidence {
                Some(evidence) => {
                    Call::VerifyEvidence { challenge, evidence, policy_id: policies(policy_id)? }
                }
                None => Call::Evidence { challenge, ima: ima == Some(true) },
            })
        }
        Path::Token => {
            let TokenBody { challenge, ima, policy_id, token } = parse(from_query, body)?;
            match (token, challenge) {
                (Some(token), None) => Ok(Call::VerifyToken(token)),
                (None, Some(challenge)) => {
                    Ok(Call::Token { challenge, ima: ima == Some(true), policy_id: policies(policy_id)? })
                }
                _ => Err(Problem::request(
                    "give either challenge, to get a token, or token, to have one verified".to_owned(),
                )),
            }
        }
        Path::Resource => {
            let ResourceBody { resource, challenge, ima, policy_id } = parse(from_query, body)?;
            Ok(Call::Resource {
                resource,
                challenge,
                ima: ima == Some(true),
                policy_id: policies(policy_id)?,
            })
        }
        Path::CurrentToken => Ok(Call::CurrentToken),
        Path::ActiveToken => {
            let ActiveBody { uuid, nonce } = parse(from_query, body)?;
            Ok(Call::ActiveToken { uuid: application(uuid)?, nonce: nonce_of(nonce)? })
        }
    }
}

fn parse<T: DeserializeOwned>(query: Option<Value>, body: &[u8]) -> Result<T, Problem> {
    let parsed = match query {
        Some(query) => serde_json::from_value(query),
        None => serde_json::from_slice(body),
    };
    // The error names member and type, never a value: a body can hold a token.
    parsed.map_err(|error| {
        Problem::request(format!(
            "the parameters are not those of this request: {} at line {}, column {}",
            match error.classify() {
                serde_json::error::Category::Data => "a member is missing or of a wrong type",
                serde_json::error::Category::Eof => "the JSON ends early",
                _ => "not JSON",
            },
            error.line(),
            error.column()
        ))
    })
}

/// Parameters of a query as the body that says the same.
fn parameters(path: Path, query: &str) -> Result<Value, Problem> {
    let mut members = Map::new();
    let mut policy_id = Vec::new();
    let mut resource = Map::new();
    for (count, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
        if count == MAX_PARAMETERS {
            return Err(Problem::request(format!("a query has at most {MAX_PARAMETERS} parameters")));
        }
        let twice = match (path, name.as_ref()) {
            (Path::Evidence | Path::Token | Path::Resource, "policy_id") => {
                policy_id.push(json!(value));
                None
            }
            (Path::Resource, "vendor" | "path") => resource.insert(name.into_owned(), json!(value)),
            (Path::Challenge, "user_data") => {
                let bytes = URL_SAFE_NO_PAD.decode(value.as_bytes()).map_err(|_| {
                    Problem::request("user_data in a query is base64url without padding".to_owned())
                })?;
                members.insert(name.into_owned(), json!(bytes))
            }
            (Path::Evidence | Path::Token | Path::Resource, "ima") => {
                let ima = match value.as_ref() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Problem::request("ima is true or false".to_owned())),
                };
                members.insert(name.into_owned(), json!(ima))
            }
            // Tokens and evidence do not belong in addresses, which are logged everywhere.
            (Path::Evidence | Path::Token | Path::Resource, "challenge" | "uuid")
            | (Path::ActiveToken, "uuid" | "nonce") => members.insert(name.into_owned(), json!(value)),
            _ => {
                return Err(Problem::request(
                    "the query has a parameter that this call does not take".to_owned(),
                ));
            }
        };
        if twice.is_some() {
            return Err(Problem::request("the query has a parameter twice".to_owned()));
        }
    }
    if !policy_id.is_empty() {
        members.insert("policy_id".to_owned(), Value::Array(policy_id));
    }
    if !resource.is_empty() {
        members.insert("resource".to_owned(), Value::Object(resource));
    }
    Ok(Value::Object(members))
}

fn policies(policy_id: Option<Vec<String>>) -> Result<Option<Vec<String>>, Problem> {
    if let Some(policies) = &policy_id {
        if policies.len() > MAX_POLICIES {
            return Err(Problem::request(format!("policy_id names at most {MAX_POLICIES} policies")));
        }
        if policies.iter().any(|name| name.len() > MAX_NAME_LEN) {
            return Err(Problem::request(format!("a policy's name has at most {MAX_NAME_LEN} bytes")));
        }
    }
    Ok(policy_id)
}

fn application(uuid: Option<String>) -> Result<String, Problem> {
    let uuid = uuid.ok_or_else(|| Problem::active("invalid_uuid", "uuid is missing"))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if uuid == "auto" || uuid.is_empty() || uuid.len() > MAX_NAME_LEN || !uuid.bytes().all(allowed) {
        let problem = "uuid names one application: letters, digits, '-', '_' and '.'; \"auto\" is not a name: give \
                       the initial measurement in hexadecimal";
        return Err(Problem::active("invalid_uuid", problem));
    }
    Ok(uuid)
}

fn nonce_of(nonce: Option<String>) -> Result<[u8; 32], Problem> {
    let nonce = nonce.ok_or_else(|| {
        Problem::active("missing_nonce", "nonce is missing: 64 hexadecimal digits that were not used before")
    })?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(&nonce, &mut bytes)
        .map_err(|_| Problem::active("invalid_nonce", "nonce is 64 hexadecimal digits (32 bytes)"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(path: Path, body: &Value) -> Call {
        read(path, None, body.to_string().as_bytes()).unwrap()
    }

    fn query(path: Path, query: &str) -> Call {
        read(path, Some(query), b"").unwrap()
    }

    #[test]
    fn query_and_body_say_the_same() {
        let path = Path::Challenge;
        assert_eq!(query(path, "user_data=AQID"), body(path, &json!({"user_data": [1, 2, 3]})));
        let path = Path::Evidence;
        let expected = body(path, &json!({"challenge": "c", "uuid": "u", "ima": true}));
        assert_eq!(query(path, "challenge=c&uuid=u&ima=true"), expected);
        let path = Path::Token;
        let expected = body(path, &json!({"challenge": "c", "policy_id": ["a.rego", "b c"]}));
        assert_eq!(query(path, "challenge=c&policy_id=a.rego&policy_id=b%20c"), expected);
        let path = Path::Resource;
        let expected = body(path, &json!({"resource": {"vendor": "v", "path": "p/q"}, "ima": null}));
        assert_eq!(query(path, "vendor=v&path=p%2Fq"), expected);
    }

    #[test]
    fn refuses_ambiguous_queries() {
        for (path, query) in [
            (Path::Token, "challenge=a&challenge=b"),
            (Path::Token, "token=a.b.c"),
            (Path::Evidence, "challenge=a&evidence=e"),
            (Path::Evidence, "challenge=a&ima=1"),
            (Path::Challenge, "user_data=A"),
            (Path::Challenge, "challenge=x"),
            (Path::Resource, "vendor=v"),
        ] {
            assert!(read(path, Some(query), b"").is_err(), "{query}");
        }
        assert!(read(Path::Challenge, Some("user_data=AQID"), b"{}").is_err());
        let many = "policy_id=a&".repeat(MAX_PARAMETERS + 1);
        assert!(read(Path::Token, Some(&many), b"").is_err());
    }

    #[test]
    fn an_unquoted_secret_does_not_come_back_in_a_message() {
        let problem = read(Path::Token, None, br#"{"challenge":"c","ima":"hunter2"}"#).unwrap_err();
        assert!(!problem.to_json().contains("hunter2"), "{}", problem.to_json());
    }

    #[test]
    fn active_token_needs_an_application_and_a_nonce() {
        let nonce = "11".repeat(32);
        let good = query(Path::ActiveToken, &format!("uuid=db&nonce={nonce}"));
        assert_eq!(good, Call::ActiveToken { uuid: "db".to_owned(), nonce: [0x11; 32] });
        for (query, code) in [
            (format!("nonce={nonce}"), "invalid_uuid"),
            (format!("uuid=auto&nonce={nonce}"), "invalid_uuid"),
            (format!("uuid=..%2F..&nonce={nonce}"), "invalid_uuid"),
            ("uuid=db".to_owned(), "missing_nonce"),
            ("uuid=db&nonce=11".to_owned(), "invalid_nonce"),
            (format!("uuid=db&nonce={nonce}00"), "invalid_nonce"),
        ] {
            let problem = read(Path::ActiveToken, Some(&query), b"").unwrap_err();
            assert!(problem.to_json().contains(code), "{query}: {}", problem.to_json());
        }
    }

    #[test]
    fn changed_requests_are_answered_with_documents() {
        let nonce = "11".repeat(32);
        let seeds = [
            r#"{"challenge":"c","ima":true,"evidence":"{}","policy_id":["a.rego"],"user_data":[1,255]}"#
                .to_owned(),
            r#"{"token":"a.b.c","resource":{"vendor":null,"path":"p"},"uuid":"db"}"#.to_owned(),
            format!(
                "challenge=c&ima=true&policy_id=a%20b&user_data=AQID&vendor=v&path=p&uuid=db&nonce={nonce}"
            ),
        ];
        for (_, path) in Path::ALL {
            for seed in &seeds {
                for index in 0..seed.len() {
                    for change in [1, 4, 0x20, 0x80] {
                        let mut bytes = seed.clone().into_bytes();
                        bytes[index] ^= change;
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        for result in [read(path, None, &bytes), read(path, Some(&text), b"")] {
                            if let Err(problem) = result {
                                serde_json::from_str::<Value>(&problem.to_json()).unwrap();
                            }
                        }
                    }
                }
            }
        }
    }
}
