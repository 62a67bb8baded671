//! The admin plane of a running service: over its socket, or over TLS.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_cli::{Format, Identity, List, Patience, TlsFiles, exchange, print_json, print_table};
use tokio::net::UnixStream;

const JSON: &str = "application/json";

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
    #[command(flatten)]
    patience: Patience,
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
            Format::Json => print_json(&items)?,
            Format::Table => print_table(header, items.iter().map(row)),
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
        let mut request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, media_type);
        if let Some(token) = &self.token {
            let text =
                std::fs::read_to_string(token).with_context(|| format!("--token {}", token.display()))?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", text.trim()));
        }
        if let Some(url) = &self.admin_url {
            let (host, stream) = service_cli::connect("--admin-url", url, self.tls()?, self.patience).await?;
            return exchange(stream, request.header(HOST, host), body, self.patience).await?.success();
        }
        let socket = self.admin_socket.as_ref().context(
            "--admin-socket PATH or --admin-url URL is required (or ATTESTATION_ADMIN_SOCKET, ATTESTATION_ADMIN_URL)",
        )?;
        let stream = self
            .patience
            .connecting(UnixStream::connect(socket))
            .await
            .with_context(|| format!("--admin-socket {}: is the service running?", socket.display()))?;
        exchange(stream, request.header(HOST, "admin"), body, self.patience).await?.success()
    }

    fn tls(&self) -> anyhow::Result<TlsFiles<'_>> {
        let ca = self.ca.as_deref().context("--ca FILE is required with --admin-url")?;
        let identity = self.cert.as_deref().zip(self.cert_key.as_deref());
        let identity = identity.map(|(certificate, key)| Identity {
            certificate: ("--cert", certificate),
            key: ("--cert-key", key),
        });
        Ok(TlsFiles { ca, identity })
    }
}
