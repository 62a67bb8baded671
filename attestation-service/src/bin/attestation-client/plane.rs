//! The admin plane of a running service: over its socket, or over TLS.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, bail};
use attestation_service::problem::ProblemDocument;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::http::request::Builder;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{Format, List};

const JSON: &str = "application/json";
/// So much is sent between two looks at the progress bar.
const CHUNK: usize = 16 * 1024;
/// Smaller uploads are over before anybody could look.
const WORTH_A_BAR: usize = 4 * CHUNK;

/// Where the admin plane is and who asks.
#[derive(Debug, Args)]
pub struct Plane {
    /// Admin socket of the service
    #[arg(long, value_name = "PATH", env = "ATTESTATION_ADMIN_SOCKET", global = true)]
    admin_socket: Option<PathBuf>,
    /// Admin listener of the service, instead of the socket
    #[arg(
        long,
        value_name = "https://HOST:PORT",
        env = "ATTESTATION_ADMIN_URL",
        global = true,
        conflicts_with = "admin_socket"
    )]
    admin_url: Option<Uri>,
    /// Authorities that certify the service, in PEM
    #[arg(long, value_name = "FILE", env = "ATTESTATION_ADMIN_CA", global = true)]
    ca: Option<PathBuf>,
    /// The operator's certificate chain in PEM
    #[arg(long, value_name = "FILE", env = "ATTESTATION_ADMIN_CERT", global = true, requires = "key_file")]
    cert: Option<PathBuf>,
    /// The private key of the certificate in PEM
    #[arg(
        long = "cert-key",
        id = "key_file",
        value_name = "FILE",
        env = "ATTESTATION_ADMIN_CERT_KEY",
        global = true,
        requires = "cert"
    )]
    cert_key: Option<PathBuf>,
    /// File with the operator's admin token
    #[arg(long, value_name = "FILE", env = "ATTESTATION_ADMIN_TOKEN", global = true)]
    token: Option<PathBuf>,
}

impl Plane {
    /// Registers a document.
    pub async fn add<T: Serialize>(&self, path: &str, document: &T) -> anyhow::Result<()> {
        self.send(Method::POST, path, document).await
    }

    /// Sends a document that changes something.
    pub async fn send<T: Serialize>(&self, method: Method, path: &str, document: &T) -> anyhow::Result<()> {
        self.request(method, path, JSON, serde_json::to_vec(document)?).await.map(drop)
    }

    /// Sends a document of another kind, and returns the answer.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        media_type: &'static str,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        let answer = self.request(Method::POST, path, media_type, body).await?;
        serde_json::from_slice(&answer).context("the service's answer is not understood")
    }

    /// What is at `path`, as it is.
    pub async fn download(&self, path: &str) -> anyhow::Result<Bytes> {
        self.request(Method::GET, path, JSON, Vec::new()).await
    }

    /// Deletes what is at `path`.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.request(Method::DELETE, path, JSON, Vec::new()).await.map(drop)
    }

    /// Prints the list that is at `path`.
    pub async fn list<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        list: &List,
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        let body = self.download(path).await?;
        let items: Vec<T> =
            serde_json::from_slice(&body).context("the service's answer is not understood")?;
        match list.format {
            Format::Json => println!("{}", serde_json::to_string_pretty(&items)?),
            Format::Table => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
                table.set_header(header);
                for item in &items {
                    table.add_row(row(item));
                }
                println!("{table}");
            }
        }
        Ok(())
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        media_type: &'static str,
        body: Vec<u8>,
    ) -> anyhow::Result<Bytes> {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, media_type);
        if let Some(url) = &self.admin_url {
            let (host, stream) = self.connect_tls(url).await?;
            return self.exchange(stream, request.header(HOST, host), body).await;
        }
        let socket = self.admin_socket.as_ref().context(
            "--admin-socket PATH or --admin-url URL is required (or ATTESTATION_ADMIN_SOCKET, ATTESTATION_ADMIN_URL)",
        )?;
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("--admin-socket {}: is the service running?", socket.display()))?;
        self.exchange(stream, request.header(HOST, "admin"), body).await
    }

    async fn connect_tls(
        &self,
        url: &Uri,
    ) -> anyhow::Result<(String, impl AsyncRead + AsyncWrite + Unpin + Send + use<>)> {
        let wrong = || format!("--admin-url {url}: expected https://HOST:PORT");
        let host = url.host().filter(|_| url.scheme_str() == Some("https")).with_context(wrong)?;
        let port = url.port_u16().unwrap_or(443);
        let tls = TlsConnector::from(Arc::new(self.tls()?));
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
            .await
            .with_context(|| format!("--admin-url {url}: is the service running with --admin-listen?"))?;
        let name = ServerName::try_from(host.to_owned()).with_context(wrong)?;
        let stream = tls.connect(name, stream).await.with_context(|| format!("--admin-url {url}"))?;
        Ok((host.to_owned(), stream))
    }

    fn tls(&self) -> anyhow::Result<ClientConfig> {
        let ca = self.ca.as_ref().context("--ca FILE is required with --admin-url")?;
        let mut roots = RootCertStore::empty();
        let in_ca = || format!("--ca {}: expected certificates in PEM", ca.display());
        for certificate in CertificateDer::pem_file_iter(ca).with_context(in_ca)? {
            roots.add(certificate.with_context(in_ca)?).with_context(in_ca)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let (Some(cert), Some(key)) = (&self.cert, &self.cert_key) else {
            return Ok(builder.with_no_client_auth());
        };
        let in_cert = || format!("--cert {}: expected a certificate chain in PEM", cert.display());
        let chain = CertificateDer::pem_file_iter(cert)
            .with_context(in_cert)?
            .collect::<Result<_, _>>()
            .with_context(in_cert)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("--cert-key {}: expected a private key in PEM", key.display()))?;
        Ok(builder.with_client_auth_cert(chain, private)?)
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut request: Builder,
        body: Vec<u8>,
    ) -> anyhow::Result<Bytes> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        if let Some(token) = &self.token {
            let text =
                std::fs::read_to_string(token).with_context(|| format!("--token {}", token.display()))?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", text.trim()));
        }
        let response = sender
            .send_request(request.body(Upload::new(body))?)
            .await
            .context("the service did not answer")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the service's answer broke off")?.to_bytes();
        drop(sender);
        // The service may close without close_notify once everything was said.
        connection.await?.ok();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<ProblemDocument>(&body) {
            Ok(problem) => bail!("{}: {}", problem.code, problem.detail),
            Err(_) => bail!("the service answered {status}"),
        }
    }
}

/// A body that shows on a terminal how much of it is sent.
struct Upload {
    rest: Bytes,
    bar: ProgressBar,
}

impl Upload {
    fn new(body: Vec<u8>) -> Self {
        let bar = if body.len() > WORTH_A_BAR {
            ProgressBar::new(u64::try_from(body.len()).unwrap_or(u64::MAX))
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}") {
            bar.set_style(style);
        }
        Self { rest: Bytes::from(body), bar }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            self.bar.finish_and_clear();
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        let chunk = self.rest.split_to(length);
        self.bar.inc(u64::try_from(length).unwrap_or(0));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}
