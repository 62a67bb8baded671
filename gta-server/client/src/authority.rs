//! The authority, and who asks it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request, Uri};
use serde_json::{Map, Value};
use service_cli::{Ended, Event, Exchanged, Identity, Patience, TlsFiles, connect, exchange, subscribe};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

const BASE: &str = "/global-trust-authority/service/v1";

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where the authority is and who asks.
#[derive(Args, Debug)]
pub struct Authority {
    /// The authority; without TLS only http://127.0.0.1:PORT
    #[arg(long, value_name = "https://HOST:PORT", env = "GTA_SERVER", global = true)]
    server: Option<Uri>,
    /// Authorities that certify the server, in PEM
    #[arg(long, value_name = "FILE", env = "GTA_CA", global = true)]
    ca: Option<PathBuf>,
    /// The tenant
    #[arg(long, value_name = "NAME", env = "GTA_TENANT", global = true)]
    tenant: Option<String>,
    /// File with an API key of the tenant
    #[arg(long, value_name = "FILE", env = "GTA_API_KEY_FILE", global = true)]
    api_key_file: Option<PathBuf>,
    /// File with a token of an OpenID Connect issuer that the server believes, instead of an API key; read for every request
    #[arg(long, value_name = "FILE", env = "GTA_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Certificate chain in PEM, of an authority that the server believes, instead of an API key
    #[arg(long, value_name = "FILE", env = "GTA_CLIENT_CERT", global = true)]
    client_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", env = "GTA_CLIENT_KEY", global = true)]
    client_key: Option<PathBuf>,
    #[command(flatten)]
    patience: Patience,
}

impl Authority {
    /// Sends JSON; gives what comes back, null if that is nothing.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.request(method, path, body.to_string().into_bytes()).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).context("the server's answer is not JSON")
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, body).await
    }

    /// Posts a file with JSON as it is.
    pub async fn upload(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let answer = self.request(Method::POST, path, body).await?;
        serde_json::from_slice(&answer).context("the server's answer is not JSON")
    }

    /// Gets what a query asks for.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Map<String, Value>> {
        let query = serde_urlencoded::to_string(query)?;
        let answer = self.request(Method::GET, &format!("{path}?{query}"), Vec::new()).await?;
        serde_json::from_slice(&answer).context("the server's answer is not a JSON object")
    }

    /// The file with the API key.
    pub fn key_file(&self) -> anyhow::Result<&PathBuf> {
        self.api_key_file.as_ref().context("--api-key-file FILE is required (or GTA_API_KEY_FILE)")
    }

    async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
        self.answer(method, path, body).await?.success()
    }

    /// What is answered to a request, whatever that is.
    pub async fn answer(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Exchanged> {
        let url = self.url()?;
        let mut request = self.signed(Request::builder().method(method).uri(format!("{BASE}{path}")))?;
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let (host, stream) = self.connect(url).await?;
        exchange(stream, request.header(HOST, host), body, self.patience).await
    }

    /// Reads the events at `path` that follow the one with the id `last`; `each` is given every one.
    ///
    /// # Errors
    /// If there is no connection. That it has ended is none.
    pub async fn follow(
        &self,
        path: &str,
        last: &str,
        each: &mut impl FnMut(Event) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ended> {
        let url = self.url()?;
        let request = self.signed(Request::builder().uri(format!("{BASE}{path}")))?;
        let (host, stream) = self.connect(url).await?;
        let request = request.header(HOST, host).header("last-event-id", last);
        Ok(subscribe(stream, request, self.patience, each).await)
    }

    fn url(&self) -> anyhow::Result<&Uri> {
        self.server.as_ref().context("--server URL is required (or GTA_SERVER)")
    }

    /// A connection, and the name of whom it leads to.
    async fn connect(&self, url: &Uri) -> anyhow::Result<(String, Box<dyn Stream>)> {
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => {
                Some(Identity { certificate: ("--client-cert", certificate), key: ("--client-key", key) })
            }
            (None, None) => None,
            _ => bail!(
                "--client-cert FILE and --client-key FILE go together (or GTA_CLIENT_CERT, GTA_CLIENT_KEY)"
            ),
        };
        if let Some(port) = loopback(url) {
            if identity.is_some() {
                bail!("--server {url}: a client certificate is shown over https only");
            }
            let stream = self
                .patience
                .connecting(TcpStream::connect(("127.0.0.1", port)))
                .await
                .with_context(|| format!("--server {url}: is the server running?"))?;
            return Ok(("localhost".to_owned(), Box::new(stream)));
        }
        let ca = self.ca.as_deref().context("--ca FILE is required (or GTA_CA)")?;
        let files = TlsFiles { ca, identity };
        let (host, stream) = connect("--server", url, files, self.patience).await?;
        Ok((host, Box::new(stream)))
    }

    /// A request with the tenant, and what shows that the caller is somebody of it.
    fn signed(&self, request: Builder) -> anyhow::Result<Builder> {
        let tenant = self.tenant.as_ref().context("--tenant NAME is required (or GTA_TENANT)")?;
        let request = request.header("user-id", tenant);
        match (&self.token_file, &self.api_key_file) {
            (Some(_), Some(_)) => {
                bail!(
                    "--token-file and --api-key-file are there (or GTA_TOKEN_FILE and GTA_API_KEY_FILE): give one of them"
                )
            }
            (Some(file), None) => {
                Ok(request.header(AUTHORIZATION, secret("--token-file", file, "Bearer ", "token")?))
            }
            (None, Some(file)) => {
                Ok(request.header("api-key", secret("--api-key-file", file, "", "API key")?))
            }
            (None, None) if self.client_cert.is_some() => Ok(request),
            (None, None) => bail!(
                "--api-key-file FILE, --token-file FILE or --client-cert FILE is required (or GTA_API_KEY_FILE, \
                 GTA_TOKEN_FILE, GTA_CLIENT_CERT)"
            ),
        }
    }
}

/// What is in a file, as the value of a header.
fn secret(option: &str, file: &Path, before: &str, what: &str) -> anyhow::Result<HeaderValue> {
    let named = || format!("{option} {}", file.display());
    let text = Zeroizing::new(std::fs::read_to_string(file).with_context(named)?);
    let text = text.trim();
    let value = Zeroizing::new(format!("{before}{text}"));
    match HeaderValue::from_str(&value) {
        Ok(mut value) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => bail!("{}: expected one {what} and nothing else", named()),
    }
}

/// The port of a server on this machine that has no TLS.
fn loopback(url: &Uri) -> Option<u16> {
    let host = url.host().filter(|_| url.scheme_str() == Some("http"))?;
    ["127.0.0.1", "localhost"].contains(&host).then(|| url.port_u16()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_only_this_machine_is_spoken_to() {
        let port = |url: &str| loopback(&url.parse().unwrap());
        assert_eq!(port("http://127.0.0.1:80"), Some(80));
        assert_eq!(port("http://localhost:8080/"), Some(8080));
        for url in
            ["http://127.0.0.1", "http://10.0.0.1:80", "https://127.0.0.1:80", "http://127.0.0.1.example:80"]
        {
            assert_eq!(port(url), None, "{url}");
        }
    }
}
