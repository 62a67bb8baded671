//! The connection to a receiver. What it answers is not looked at but for the status: it is nobody's friend.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::message::Message;
use super::target::{Target, TargetError};

/// How long a name may take to be looked up and a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Most bytes of an answer's head, and of its body if the connection is to be used again.
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 16 * 1024;
const AGENT: &str = concat!("gta-server/", env!("CARGO_PKG_VERSION"));

/// Why the receiver has not taken a message.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It may not lead there.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The authorities of the webhook cannot be used.
    #[error("ca has no certificates in PEM that can be used")]
    Authorities,
    /// No connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// It is not who it should be.
    #[error("no trusted TLS connection: {0}")]
    Tls(io::Error),
    /// No answer.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// It wants the message elsewhere.
    #[error("it answered {0}, and redirects are not followed")]
    Redirect(StatusCode),
    /// It did not take the message.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// The message cannot be sent as HTTP.
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a receiver, made when there is something to send and kept for what comes next.
pub struct Line {
    target: Target,
    tls: Arc<ClientConfig>,
    allow_private: bool,
    timeout: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    /// A line to `url`. Its certificate must lead to an authority in `ca`, or without that to one that browsers know.
    pub fn new(
        url: &str,
        ca: Option<&str>,
        allow_private: bool,
        timeout: Duration,
    ) -> Result<Self, SendError> {
        let target = Target::parse(url, allow_private)?;
        let roots = match ca {
            Some(pem) => authorities(pem).ok_or(SendError::Authorities)?,
            None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SendError::Tls(io::Error::other(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { target, tls: Arc::new(tls), allow_private, timeout, sender: None })
    }

    /// Has the receiver take a message.
    pub async fn send(&mut self, message: &Message) -> Result<(), SendError> {
        let sent = tokio::time::timeout(self.timeout, self.exchange(message)).await;
        let sent = sent.unwrap_or(Err(SendError::Timeout(self.timeout)));
        if sent.is_err() {
            // Of an exchange that was left half-way, an answer may still come.
            self.sender = None;
        }
        sent
    }

    async fn exchange(&mut self, message: &Message) -> Result<(), SendError> {
        let request = Request::post(self.target.path.as_str())
            .header(HOST, &self.target.authority)
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", &message.signature)
            .body(Full::new(Bytes::from(message.body.clone())))?;
        let mut sender = match self.kept().await {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        let status = response.status();
        let rest = Limited::new(response.into_body(), MAX_BODY).collect().await;
        if rest.is_ok() {
            self.sender = Some(sender);
        }
        match status {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(SendError::Redirect(status)),
            status => Err(SendError::Status(status)),
        }
    }

    /// The connection of before, if it is still there.
    async fn kept(&mut self) -> Option<SendRequest<Full<Bytes>>> {
        let mut sender = self.sender.take()?;
        sender.ready().await.ok()?;
        Some(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SendError> {
        let open = async {
            let addresses = self.target.addresses(self.allow_private).await?;
            let stream = TcpStream::connect(addresses.as_slice()).await.map_err(SendError::Connect)?;
            if !self.target.tls {
                return Ok::<Box<dyn Stream>, SendError>(Box::new(stream));
            }
            let name = ServerName::try_from(self.target.host.clone())
                .map_err(|error| SendError::Tls(io::Error::other(error)))?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            Ok(Box::new(connector.connect(name, stream).await.map_err(SendError::Tls)?))
        };
        let limit = CONNECT.min(self.timeout);
        let stream = tokio::time::timeout(limit, open).await.unwrap_or(Err(SendError::Timeout(limit)))?;
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to a webhook's receiver ended");
            }
        });
        Ok(sender)
    }
}

/// The authorities in a text; none, if one cannot be used or there is none.
pub fn authorities(pem: &str) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}
