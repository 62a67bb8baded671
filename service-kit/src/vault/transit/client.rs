//! Requests to the server that has the engine. Its answers are bounded and it leads nowhere else.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::credentials::Logins;
use super::error::TransitKeyError;
use super::uri::TransitUri;
use crate::outbound::{AGENT, MAX_HEAD, connector};

/// Longest answer, in bytes. The description of a key has some 25 for each of its versions.
pub const MAX_ANSWER: usize = 256 * 1024;
/// How long a name may take to be looked up and a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take.
const WHOLE: Duration = Duration::from_secs(10);
/// Most connections that are kept for the next request.
const MAX_IDLE: usize = 4;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Sender = SendRequest<Full<Bytes>>;

/// The status of an answer, and its body.
pub type Answered = (StatusCode, Zeroizing<Vec<u8>>);

/// What a server is asked for.
pub struct Call {
    /// Where, below `/v1/`.
    pub path: String,
    /// With what; nothing, if it is only to be told.
    pub body: Option<Bytes>,
}

/// What is done with the key.
#[derive(Clone, Copy)]
pub enum Operation {
    /// Tell what it is.
    Describe,
    /// Wrap.
    Encrypt,
    /// Unwrap.
    Decrypt,
    /// Name a version.
    Hmac,
}

impl Operation {
    const fn path(self) -> &'static str {
        match self {
            Self::Describe => "keys",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Hmac => "hmac",
        }
    }
}

/// A server, with connections that are kept for what comes next.
pub struct Client {
    uri: TransitUri,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<Sender>>,
    /// What is remembered of tokens.
    pub logins: Logins,
    /// How long a request may take, with the connection.
    pub limit: Duration,
}

impl Client {
    /// Asks nothing yet.
    pub fn new(uri: TransitUri) -> Result<Self, TransitKeyError> {
        let ca = || uri.ca.as_ref().map_or_else(|| "of browsers".to_owned(), |ca| ca.display().to_string());
        let trust = |source| TransitKeyError::Trust { ca: ca(), source };
        let tls = uri.tls.then(|| connector(uri.ca.as_deref())).transpose().map_err(trust)?;
        Ok(Self { uri, tls, idle: Mutex::default(), logins: Logins::default(), limit: WHOLE })
    }

    /// Where the key is.
    pub const fn uri(&self) -> &TransitUri {
        &self.uri
    }

    /// Asks for an operation on the key; `body` is what it is given.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<T, TransitKeyError> {
        let call = Call { path: self.path(operation), body: body.map(Bytes::from_owner) };
        let limited = tokio::time::timeout(self.limit, self.exchange(&call)).await;
        let (status, answer) = limited
            .unwrap_or_else(|_| Err(TransitKeyError::Timeout { server: self.server(), limit: self.limit }))?;
        if status != StatusCode::OK {
            return Err(self.failed(call.path, status));
        }
        serde_json::from_slice(&answer).map_err(|_| self.strange(call.path))
    }

    /// Where the server does an operation on the key.
    pub fn path(&self, operation: Operation) -> String {
        format!("{}/{}/{}", self.uri.mount, operation.path(), self.uri.name)
    }

    /// What the server answered cannot be right.
    pub fn strange(&self, asked: String) -> TransitKeyError {
        TransitKeyError::Answer { server: self.server(), asked }
    }

    /// The server answered with an error.
    pub fn failed(&self, asked: String, status: StatusCode) -> TransitKeyError {
        let server = self.server();
        let (mount, name) = (self.uri.mount.clone(), self.uri.name.clone());
        match status {
            StatusCode::BAD_REQUEST => TransitKeyError::Refused { server, asked },
            StatusCode::FORBIDDEN => TransitKeyError::Denied {
                server,
                asked,
                whose: self.uri.credentials.to_string(),
                mount,
                name,
            },
            StatusCode::NOT_FOUND => TransitKeyError::Absent { server, mount, name },
            StatusCode::SERVICE_UNAVAILABLE => TransitKeyError::Sealed { server },
            status if status.is_redirection() => TransitKeyError::Redirect { server, asked, status },
            status => TransitKeyError::Status { server, asked, status },
        }
    }

    fn server(&self) -> String {
        self.uri.server().to_owned()
    }

    /// A token may be over at any moment, and another be there.
    async fn exchange(&self, call: &Call) -> Result<Answered, TransitKeyError> {
        let token = self.token(None).await?;
        let answered = self.send(call, Some(&token)).await?;
        if answered.0 == StatusCode::FORBIDDEN {
            let newer = self.token(Some(&token)).await?;
            if newer != token {
                return self.send(call, Some(&newer)).await;
            }
        }
        Ok(answered)
    }

    /// Asks for something, with a token or without. The caller bounds the time.
    pub async fn send(&self, call: &Call, token: Option<&HeaderValue>) -> Result<Answered, TransitKeyError> {
        // The server may have closed a connection that was kept. Everything can be asked for twice.
        if let Some(mut sender) = self.kept().await
            && let Ok(response) = sender.send_request(self.request(call, token)?).await
        {
            return self.read(sender, response).await;
        }
        let mut sender = self.connect().await?;
        let response = sender
            .send_request(self.request(call, token)?)
            .await
            .map_err(|source| TransitKeyError::Exchange { server: self.server(), source })?;
        self.read(sender, response).await
    }

    fn request(
        &self,
        call: &Call,
        token: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, TransitKeyError> {
        let mut request = Request::builder()
            .method(if call.body.is_some() { Method::POST } else { Method::GET })
            .uri(format!("/v1/{}", call.path))
            .header(HOST, &self.uri.authority)
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/json")
            // Agents can be made to ask for it.
            .header("X-Vault-Request", "true");
        if let Some(token) = token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(namespace) = &self.uri.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        Ok(request.body(Full::new(call.body.clone().unwrap_or_default()))?)
    }

    async fn read(
        &self,
        sender: Sender,
        response: hyper::Response<Incoming>,
    ) -> Result<Answered, TransitKeyError> {
        let status = response.status();
        let mut body = response.into_body();
        let mut whole = Zeroizing::new(Vec::with_capacity(4096));
        while let Some(frame) = body.frame().await {
            let broken = || TransitKeyError::Body { server: self.server() };
            let data = frame.map_err(|_| broken())?.into_data().unwrap_or_default();
            if whole.len() + data.len() > MAX_ANSWER {
                return Err(broken());
            }
            whole.extend_from_slice(&data);
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
        Ok((status, whole))
    }

    /// A connection of before that is still there.
    async fn kept(&self) -> Option<Sender> {
        loop {
            let mut sender = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<Sender, TransitKeyError> {
        let open = async {
            let connecting = |source| TransitKeyError::Connect { server: self.server(), source };
            let stream =
                TcpStream::connect((self.uri.host.as_str(), self.uri.port)).await.map_err(connecting)?;
            stream.set_nodelay(true).map_err(connecting)?;
            let Some(tls) = &self.tls else {
                return Ok::<Box<dyn Stream>, TransitKeyError>(Box::new(stream));
            };
            let untrusted = |source| TransitKeyError::Tls { server: self.server(), source };
            let name = ServerName::try_from(self.uri.host.clone())
                .map_err(|error| untrusted(io::Error::other(error)))?;
            Ok(Box::new(tls.connect(name, stream).await.map_err(untrusted)?))
        };
        let stream = tokio::time::timeout(CONNECT, open)
            .await
            .unwrap_or_else(|_| Err(TransitKeyError::Timeout { server: self.server(), limit: CONNECT }))?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| TransitKeyError::Exchange { server: self.server(), source })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the server of a transit engine ended");
            }
        });
        Ok(sender)
    }
}
