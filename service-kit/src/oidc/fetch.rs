//! A document of an issuer, over TLS. Whoever answers there is not trusted with more than its bytes: they are bounded, and
//! it leads nowhere else.

use std::io;

use axum::body::Body;
use axum::http::header::{ACCEPT, HOST, USER_AGENT};
use axum::http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::outbound::{AGENT, MAX_HEAD, TrustError};

/// Longest document, in bytes.
pub const MAX_DOCUMENT: usize = 64 * 1024;

/// Why a document cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is somewhere else than where documents are looked for.
    #[error("{0:?} is no https URL")]
    Url(String),
    /// Whom to trust cannot be told.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No connection.
    #[error("no connection to {host}: {source}")]
    Connect {
        /// Where to.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// It is not who it should be.
    #[error("no trusted TLS connection to {host}: {source}")]
    Tls {
        /// Where to.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// No answer.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The request cannot be made.
    #[error("the request cannot be made: {0}")]
    Request(#[from] axum::http::Error),
    /// Another answer, among them redirects.
    #[error("{url} answered {status}, where 200 was expected")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// It does not end, or breaks off.
    #[error("the answer broke off, or has more than {MAX_DOCUMENT} bytes")]
    Body,
}

/// Where a document is.
#[derive(Debug)]
pub struct Address {
    url: String,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl Address {
    /// Reads `https://HOST[:PORT][/PATH]`.
    pub fn parse(url: &str) -> Result<Self, FetchError> {
        let wrong = || FetchError::Url(super::shorten(url));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        // One that is no number would otherwise be passed over.
        let port_is_one = authority.as_str() == host || authority.port_u16().is_some();
        let has_user = authority.as_str().contains('@');
        if uri.scheme_str() != Some("https") || host.is_empty() || has_user || !port_is_one {
            return Err(wrong());
        }
        Ok(Self {
            url: url.to_owned(),
            authority: authority.as_str().to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(443),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

/// What is at an address. The caller bounds the time.
pub async fn get(address: &Address, tls: &TlsConnector) -> Result<Bytes, FetchError> {
    let Address { url, authority, host, port, path } = address;
    let name = ServerName::try_from(host.clone()).map_err(|_| FetchError::Url(url.clone()))?;
    let stream = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|source| FetchError::Connect { host: host.clone(), source })?;
    let stream =
        tls.connect(name, stream).await.map_err(|source| FetchError::Tls { host: host.clone(), source })?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path.as_str())
        .header(HOST, authority)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json")
        .body(Body::empty())?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(FetchError::Status { url: url.clone(), status });
    }
    let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
    connection.abort();
    Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
}
