//! A client of the program, over TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use gta_server::api::BASE;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Believes this certificate and no other.
pub fn trusting(certificate: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A connection, for one request after the other.
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    pub async fn open(address: SocketAddr, tls: &TlsConnector) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// The status and the body, if all of the answer comes.
    pub async fn ask(
        &mut self,
        key: &Value,
        method: Method,
        path: &str,
        body: &Value,
    ) -> hyper::Result<(u16, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header("Host", "localhost")
            .header("Content-Type", "application/json")
            .header("User-Id", key["User-Id"].as_str().unwrap())
            .header("API-Key", key["API-Key"].as_str().unwrap());
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.0.send_request(request.body(Full::from(text)).unwrap()).await?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}
