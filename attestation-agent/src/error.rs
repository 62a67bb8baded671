use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::collect::CollectError;

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a secret or a token could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is missing or has a value that cannot be used.
    #[error("option {option}: {problem}")]
    Option {
        /// The option, as it is typed.
        option: &'static str,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
    /// A file that an option names cannot be used.
    #[error("option {option}: cannot {action} {}", path.display())]
    File {
        /// The option, as it is typed.
        option: &'static str,
        /// What was tried: "read", "write" or the like.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel gave no evidence.
    #[error("cannot collect evidence")]
    Collect(#[from] CollectError),
    /// The TPM gave no evidence.
    #[error("the TPM cannot be used")]
    Tpm(#[from] tpm::Error),
    /// There is no connection to the service.
    #[error("cannot reach the attestation service at {address}: does it listen there (option --service)?")]
    Connect {
        /// Where the service should be.
        address: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel has no vsock, or the machine has no vsock device.
    #[error(
        "cannot reach the attestation service at {address}: this guest has no vsock; load the module \
         vmw_vsock_virtio_transport (kernel option CONFIG_VIRTIO_VSOCKETS) and give the machine a vsock device"
    )]
    NoVsock {
        /// Where the service should be.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The service did not prove to be the one that this guest trusts, or does not speak TLS 1.3.
    #[error(
        "no trusted TLS 1.3 connection to {address}: its certificate must be the one of --service-cert, be valid now \
         and name --server-name {server_name:?}"
    )]
    Tls {
        /// Where the service should be.
        address: String,
        /// The name that was expected in the certificate.
        server_name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The service did not answer in time.
    #[error("the attestation service did not {what} within {} s (option --timeout)", limit.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The HTTP exchange failed.
    #[error("the HTTP exchange with the attestation service failed at {endpoint}")]
    Http {
        /// The method and path.
        endpoint: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service answered something that its interface does not allow.
    #[error("the attestation service broke its interface at {endpoint}: {problem}")]
    Interface {
        /// The method and path.
        endpoint: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The challenge was not made for us: attesting it would vouch for someone else's key.
    #[error(
        "the challenge does not end with what was asked for, the thumbprint of this agent's key: the service or \
         someone between is trying to have another key attested"
    )]
    ForeignChallenge,
    /// The service refused.
    #[error("the attestation service refused: {0}")]
    Refused(Refusal),
    /// The service says that it cannot decide now.
    #[error("the attestation service cannot answer now, try again later: {0}")]
    Unavailable(Refusal),
    /// The released secret cannot be opened.
    #[error("the released secret cannot be opened")]
    Unseal(#[from] jose::Error),
    /// A token does not hold.
    #[error("the token does not hold")]
    Token(#[from] jose::TokenError),
    /// A parameter of a request cannot be used.
    #[error("{0}")]
    Request(String),
    /// The agent is not set up for a request.
    #[error("this agent does not offer {0}")]
    NotSupported(&'static str),
    /// A secret was asked for under a challenge that does not carry a key of this agent.
    #[error(
        "a secret can be sealed only to a key of this agent: give a challenge that /challenge of this agent returned \
         without user_data less than a minute ago, or none"
    )]
    ChallengeNotBound,
    /// The secret is not text.
    #[error("the secret is not UTF-8 text, which this interface needs; use attestation-agent fetch")]
    SecretNotText,
    /// No application of this name has a cached token.
    #[error("no application {uuid:?} is configured (member app_list of the configuration file)")]
    AppNotFound {
        /// The name, shortened.
        uuid: String,
    },
    /// The application was set up for another kind of confidential VM.
    #[error("the application is configured for the platform {configured:?}, and this guest's is {found:?}")]
    PlatformMismatch {
        /// The platform in the configuration.
        configured: String,
        /// What this guest is.
        found: &'static str,
    },
    /// The cached token is not there yet, or ran out.
    #[error("there is no valid token for the application yet; the agent is trying to get one")]
    NoTokenYet,
}

impl Error {
    /// What the service gave as its reason, if it gave one.
    #[must_use]
    pub const fn reason(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(reason) | Self::Unavailable(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Longest machine code or step name taken over from the service, in bytes. They are printed, logged and passed on.
const MAX_CODE_LEN: usize = 64;
/// Longest explanation taken over from the service, in characters.
const MAX_DETAIL_LEN: usize = 1024;

/// Why the service did not do what was asked, as it gave it (RFC 9457 problem document with the members `code` and `step`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The machine code, in snake case.
    pub code: String,
    /// The step of the appraisal that refused, when it was one.
    pub step: Option<String>,
    /// An explanation for people.
    pub detail: String,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    step: Option<String>,
    #[serde(default)]
    detail: String,
}

impl Refusal {
    /// Reads the body of an answer with an error status; `None` if it is not a problem document with a code.
    pub(crate) fn from_body(status: u16, body: &[u8]) -> Option<Self> {
        let problem: Problem = serde_json::from_slice(body).ok()?;
        let is_code = |text: &str| {
            (1..=MAX_CODE_LEN).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        };
        if !is_code(&problem.code) || problem.step.as_deref().is_some_and(|step| !is_code(step)) {
            return None;
        }
        // It ends up on terminals: no control characters.
        let detail = problem.detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_LEN).collect();
        Some(Self { status, code: problem.code, step: problem.step, detail })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if let Some(step) = &self.step {
            write!(f, " at step {step}")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_a_refusal_without_what_could_harm_a_terminal() {
        let body =
            br#"{"code":"rim_mismatch","step":"reference_values","detail":"\u001b[2Jcleared","status":200}"#;
        let refusal = Refusal::from_body(403, body).unwrap();
        assert_eq!(refusal.to_string(), "rim_mismatch at step reference_values ([2Jcleared)");
        assert_eq!(refusal.status, 403);
    }

    #[test]
    fn does_not_take_other_text_for_a_refusal() {
        let long = format!(r#"{{"code":"{}"}}"#, "a".repeat(MAX_CODE_LEN + 1));
        for body in
            ["", "{}", "<html>", r#"{"code":""}"#, r#"{"code":"a b"}"#, r#"{"code":"a","step":"\n"}"#, &long]
        {
            assert_eq!(Refusal::from_body(403, body.as_bytes()), None, "{body}");
        }
    }
}
