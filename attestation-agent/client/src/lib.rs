//! Client of the attestation agent's local REST interface, for programs in the same guest, and for its host where the
//! agent listens on vsock.
//!
//! It speaks what secGear's agent speaks, too: parameters go as a JSON body, with `GET` for what reads.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod vsock;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest evidence read, with logs, in bytes. Without the bounds, whoever sits at the agent's address could make the program
/// run out of memory.
const MAX_EVIDENCE_LEN: usize = 33 * 1024 * 1024;
/// Longest other answer read, in bytes: challenges, tokens, and their claims.
const MAX_ANSWER_LEN: usize = 1024 * 1024;
/// Longest explanation taken over from the agent, in characters.
const MAX_DETAIL_LEN: usize = 1024;
/// Firmware can need seconds for a token, and the agent's own exchanges with the service can take 30 each.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `ADDRESS:PORT` or `http://ADDRESS:PORT`, on loopback.
    Tcp(SocketAddr),
    /// `unix:PATH`
    Unix(PathBuf),
    /// A vsock port of a guest, from its host; programs in the guest do not name it, so it cannot be parsed.
    Vsock {
        /// The VMM's Unix socket.
        socket: PathBuf,
        /// The port.
        port: u32,
    },
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Tcp(([127, 0, 0, 1], 8081).into())
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        match address.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            _ => Err(Error::Endpoint { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { socket, port } => write!(f, "vsock port {port} by {}", socket.display()),
        }
    }
}

/// Why the agent gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address of a local agent.
    #[error("{found:?} is no address of an agent in this guest: expected unix:PATH or http://127.0.0.1:PORT")]
    Endpoint {
        /// What was given.
        found: String,
    },
    /// Nobody listens.
    #[error(
        "cannot reach the attestation agent at {endpoint}: is attestation-agent daemon running, and listening there?"
    )]
    Connect {
        /// Where it should be.
        endpoint: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The HTTP exchange failed.
    #[error("the exchange with the attestation agent failed at {path}")]
    Http {
        /// The path.
        path: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The agent did not answer in time.
    #[error("the attestation agent did not answer {path} within {} s", limit.as_secs())]
    Timeout {
        /// The path.
        path: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The agent refused, or the service behind it.
    #[error("the attestation agent refused {path} with {code} (status {status}): {detail}")]
    Refused {
        /// The path.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// The machine code.
        code: String,
        /// The explanation.
        detail: String,
    },
    /// The agent's answer is not one of its interface.
    #[error("the attestation agent broke its interface at {path}: {problem}")]
    Interface {
        /// The path.
        path: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

/// The agent of this guest.
#[derive(Debug, Clone)]
pub struct AgentClient {
    endpoint: Endpoint,
    timeout: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl AgentClient {
    /// A client of the agent at `endpoint`.
    #[must_use]
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, timeout: DEFAULT_TIMEOUT }
    }

    /// The same with another limit for each exchange, connecting included.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A challenge with `user_data` (at most 32 bytes) as its second half.
    ///
    /// # Errors
    /// [`Error`] says what the agent said.
    pub async fn challenge(&self, user_data: &[u8]) -> Result<String, Error> {
        self.text(Method::GET, "/challenge", &json!({ "user_data": user_data })).await
    }

    /// Evidence of this guest for a challenge (base64url), as JSON.
    ///
    /// # Errors
    /// [`Error`] says what the agent said.
    pub async fn evidence(&self, challenge: &str, uuid: &str, ima: bool) -> Result<String, Error> {
        let body = json!({ "challenge": challenge, "uuid": uuid, "ima": ima });
        self.limited(Method::GET, "/evidence", &body, MAX_EVIDENCE_LEN).await
    }

    /// What evidence proves: the claims of a verified token.
    ///
    /// # Errors
    /// [`Error`] says what the agent said.
    pub async fn verify_evidence(
        &self,
        challenge: &str,
        evidence: &str,
        policy_id: Option<&[String]>,
    ) -> Result<Map<String, Value>, Error> {
        let body = json!({ "challenge": challenge, "evidence": evidence, "policy_id": policy_id });
        let text = self.text(Method::POST, "/evidence", &body).await?;
        serde_json::from_str(&text)
            .map_err(|_| Error::Interface { path: "/evidence", problem: "the claims are no JSON object" })
    }

    /// A token about this guest for a challenge (base64url).
    ///
    /// # Errors
    /// [`Error`] says what the agent said.
    pub async fn token(&self, challenge: &str, policy_id: Option<&[String]>) -> Result<String, Error> {
        self.text(Method::GET, "/token", &json!({ "challenge": challenge, "policy_id": policy_id })).await
    }

    async fn text(&self, method: Method, path: &'static str, body: &Value) -> Result<String, Error> {
        self.limited(method, path, body, MAX_ANSWER_LEN).await
    }

    async fn limited(
        &self,
        method: Method,
        path: &'static str,
        body: &Value,
        limit: usize,
    ) -> Result<String, Error> {
        tokio::time::timeout(self.timeout, self.exchange(method, path, body.to_string(), limit))
            .await
            .unwrap_or(Err(Error::Timeout { path, limit: self.timeout }))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &'static str,
        body: String,
        limit: usize,
    ) -> Result<String, Error> {
        let unreachable = |source| Error::Connect { endpoint: self.endpoint.to_string(), source };
        let stream: Box<dyn Stream> = match &self.endpoint {
            Endpoint::Tcp(address) => Box::new(TcpStream::connect(address).await.map_err(unreachable)?),
            Endpoint::Unix(socket) => Box::new(UnixStream::connect(socket).await.map_err(unreachable)?),
            Endpoint::Vsock { socket, port } => {
                Box::new(vsock::connect(socket, *port).await.map_err(unreachable)?)
            }
        };
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Http { path, source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.into()))?;
        let exchange = async {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(HOST, "localhost")
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body)))
                .map_err(|error| failed(error.into()))?;
            let response = sender.send_request(request).await.map_err(|error| failed(error.into()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Error::Interface { path, problem: "the answer is too long" }
                } else {
                    failed(error)
                }
            })?;
            read_answer(path, status, &body.to_bytes())
        };
        // The connection's own task; it ends with the exchange.
        let drive = async {
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            done = exchange => done,
            never = drive => never,
        }
    }
}

fn read_answer(path: &'static str, status: StatusCode, body: &[u8]) -> Result<String, Error> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Error::Interface { path, problem: "the answer is not text" })?;
    if status == StatusCode::OK {
        return Ok(text.to_owned());
    }
    let problem: Value = serde_json::from_str(text).unwrap_or_default();
    let member = |name: &str, other: &str| {
        let text = problem.get(name).and_then(Value::as_str).unwrap_or(other);
        text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_LEN).collect::<String>()
    };
    Err(Error::Refused {
        path,
        status: status.as_u16(),
        code: member("code", "unknown"),
        detail: member("detail", "the agent gave no reason"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_agents_in_this_guest_are_asked() {
        for text in ["http://127.0.0.1:8081/", "127.0.0.1:8081", "http://[::1]:1", "unix:/run/agent.sock"] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text}");
        }
        for text in ["", "http://192.0.2.1:8081", "http://agent.example:1", "https://127.0.0.1:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn tells_what_the_agent_said_without_what_could_harm_a_terminal() {
        let body = br#"{"code":"rim_mismatch","detail":"\u001b[2Jfound 11"}"#;
        let error = read_answer("/token", StatusCode::FORBIDDEN, body).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("rim_mismatch") && text.contains("[2Jfound 11") && !text.contains('\u{1b}'));
        assert!(read_answer("/token", StatusCode::BAD_GATEWAY, b"<html>").is_err());
        assert!(read_answer("/token", StatusCode::OK, b"\xff").is_err());
    }

    #[tokio::test]
    async fn says_where_it_found_nobody() {
        let client = AgentClient::new(Endpoint::Unix("/nonexistent/agent.sock".into()));
        let error = client.challenge(&[]).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/agent.sock"), "{error}");
    }
}
