//! Asks a running VMM: a blocking client of its REST interface on a Unix socket.
//!
//! Paths, JSON and status codes are those of Cloud Hypervisor's v1 interface; the types are in [`api`]. Every call has
//! a connection of its own and an end: a VMM that does not answer is an error, never a hang.

#![forbid(unsafe_code)]

mod calls;
mod error;
mod stream;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime;

pub use error::{Error, Failure};

use stream::FdStream;

/// What every path begins with.
const BASE: &str = "/api/v1";

/// Longest answer read, in bytes. The description of a VM with thousands of devices is shorter; without the bound
/// whoever listens on the socket could make the client run out of memory.
const MAX_ANSWER_LEN: usize = 16 << 20;

/// How long a VMM may take to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A question, or a change that takes no work.
    pub quick: Duration,
    /// A change of the VM's state: a large Realm is measured page by page before it boots.
    pub slow: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { quick: Duration::from_secs(10), slow: Duration::from_secs(300) }
    }
}

/// A client of one VMM.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    timeouts: Timeouts,
}

impl Client {
    /// A client of the VMM that listens on `socket`. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeouts: Timeouts::default() }
    }

    /// The same with other times to wait.
    #[must_use]
    pub const fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The socket that it asks.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /api/v1/<endpoint>`.
    ///
    /// # Errors
    ///
    /// [`Error`]: no answer, a refusal, or an answer that is not `T`.
    pub fn get<T: DeserializeOwned>(&self, endpoint: &'static str) -> Result<T, Error> {
        let exchange = Exchange { endpoint, method: Method::GET, body: None, fds: Vec::new() };
        let answer = self.run(exchange, self.timeouts.quick)?;
        self.decode(endpoint, &answer)
    }

    fn decode<T: DeserializeOwned>(&self, endpoint: &'static str, answer: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(answer)
            .map_err(|source| self.error(endpoint, Failure::Answer { reason: source.to_string() }))
    }

    fn encode<B: Serialize>(&self, endpoint: &'static str, body: &B) -> Result<Bytes, Error> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|source| self.error(endpoint, Failure::Request { source }))
    }

    fn error(&self, endpoint: &'static str, failure: Failure) -> Error {
        Error { endpoint, socket: self.socket.clone(), failure }
    }

    /// Sends one request on a connection of its own and returns the body of its answer.
    fn run(&self, exchange: Exchange, timeout: Duration) -> Result<Bytes, Error> {
        let endpoint = exchange.endpoint;
        let result = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Failure::Runtime { source })
            .and_then(|runtime| {
                runtime.block_on(async {
                    let answer = tokio::time::timeout(timeout, exchange.send(&self.socket)).await;
                    answer.unwrap_or(Err(Failure::Timeout { after: timeout }))
                })
            });
        result.map_err(|failure| self.error(endpoint, failure))
    }
}

/// One request.
struct Exchange {
    endpoint: &'static str,
    method: Method,
    body: Option<Bytes>,
    fds: Vec<OwnedFd>,
}

impl Exchange {
    async fn send(self, socket: &Path) -> Result<Bytes, Failure> {
        let stream = UnixStream::connect(socket).await.map_err(|source| Failure::Connect { source })?;
        let (mut sender, connection) = http1::handshake(FdStream::new(stream, self.fds))
            .await
            .map_err(|source| Failure::Transport { source })?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("{BASE}/{}", self.endpoint))
            .header(HOST, HeaderValue::from_static("localhost"))
            .header(ACCEPT, HeaderValue::from_static("application/json"));
        if self.body.is_some() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = request
            .body(Full::new(self.body.unwrap_or_default()))
            .map_err(|source| Failure::Address { source })?;
        let answer = sender.send_request(request).await.map_err(|source| Failure::Transport { source });
        let answer = match answer {
            Ok(answer) => body(answer).await,
            Err(failure) => Err(failure),
        };
        driver.abort();
        answer
    }
}

async fn body(answer: Response<Incoming>) -> Result<Bytes, Failure> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_LEN).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::Answer { reason: format!("longer than {MAX_ANSWER_LEN} bytes") }
        } else {
            Failure::Answer { reason: error.to_string() }
        }
    })?;
    let body = body.to_bytes();
    match status {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok(body),
        _ => Err(Failure::Refused { status: status.as_u16(), messages: error::messages(&body) }),
    }
}
