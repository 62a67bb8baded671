//! TLS 1.3 to the attestation service, over vsock or TCP, and HTTP/1.1 in it.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::{Error, Refusal, Result};

/// Longest answer read, in bytes: more than the longest sealed secret. Without it the service, or whoever holds its
/// key, could make the guest run out of memory.
const MAX_ANSWER_LEN: usize = jose::MAX_COMPACT_LEN + 1024;
/// Most bytes of response head buffered; same reason.
const MAX_HEAD_LEN: usize = 32 * 1024;

/// How the kernel says that it has no vsock, or no device for it.
const EAFNOSUPPORT: i32 = 97;
const ENODEV: i32 = 19;

/// Where the attestation service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceAddress {
    /// An AF_VSOCK address: the way out of a guest without network. Context 2 is the host.
    Vsock {
        /// The context identifier.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A TCP address of this machine, without TLS.
    Loopback {
        /// The port.
        port: u16,
    },
    /// A TCP address.
    Tcp {
        /// Name or address; IPv6 addresses without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl ServiceAddress {
    /// The name that the service's certificate must carry unless another is given; vsock addresses have none.
    #[must_use]
    pub fn default_server_name(&self) -> Option<&str> {
        match self {
            Self::Vsock { .. } => None,
            Self::Loopback { .. } => Some("localhost"),
            Self::Tcp { host, .. } => Some(host),
        }
    }
}

impl FromStr for ServiceAddress {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = || format!("{text:?} is not of the form vsock://CID:PORT or https://HOST:PORT");
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(expected)?;
        match scheme {
            "http" if host == "127.0.0.1" || host == "localhost" => {
                Ok(Self::Loopback { port: port.parse().map_err(|_| expected())? })
            }
            "http" => Err(format!(
                "{text:?} has no TLS, so others could read and change what is said; without TLS only 127.0.0.1 is \
                 spoken to"
            )),
            "vsock" => Ok(Self::Vsock {
                cid: host.parse().map_err(|_| expected())?,
                port: port.parse().map_err(|_| expected())?,
            }),
            "https" => {
                let port = port.parse().map_err(|_| expected())?;
                let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                    Some(ipv6) if ipv6.contains(':') => ipv6,
                    None if !host.is_empty() && !host.contains([':', '/', '@', '[', ']']) => host,
                    _ => return Err(expected()),
                };
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock { cid, port } => write!(f, "vsock://{cid}:{port}"),
            Self::Loopback { port } => write!(f, "http://127.0.0.1:{port}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

/// Connects over vsock. Linux gives up after two seconds, which a busy host may need; how long to wait is the caller's
/// decision.
async fn vsock(address: VsockAddr) -> io::Result<VsockStream> {
    loop {
        match VsockStream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                tracing::debug!(%address, "no answer over vsock yet");
            }
            connected => return connected,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections to one attestation service that proves itself with one of the given certificates.
#[derive(Clone)]
pub struct Client {
    address: ServiceAddress,
    host: HeaderValue,
    tls: Option<Tls>,
    timeout: Duration,
}

#[derive(Clone)]
struct Tls {
    server_name: ServerName<'static>,
    config: Arc<ClientConfig>,
    identity: Option<Identity>,
}

/// What this machine shows of itself, in PEM. It is read for every connection: who renews certificates by themselves tells
/// nobody.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The file with the certificate chain (`--client-cert`).
    pub certificate: PathBuf,
    /// The file with its private key (`--client-key`).
    pub key: PathBuf,
}

impl Identity {
    fn read(&self) -> Result<SingleCertAndKey> {
        type Source = Box<dyn std::error::Error + Send + Sync>;
        let failed = |option, path: &PathBuf, source: Source| Error::File {
            option,
            action: "use",
            path: path.clone(),
            source,
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|error| failed("--client-cert", &self.certificate, error.into()))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| failed("--client-key", &self.key, error.into()))?;
        let pair = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|error| failed("--client-cert", &self.certificate, error.into()))?;
        Ok(SingleCertAndKey::from(pair))
    }
}

impl Client {
    /// A client of a service on this machine's loopback at `port`, without TLS.
    #[must_use]
    pub fn loopback(port: u16, timeout: Duration) -> Self {
        let host = HeaderValue::from_static("localhost");
        Self { address: ServiceAddress::Loopback { port }, host, tls: None, timeout }
    }

    /// A client that trusts `certificates` and nothing else; `timeout` bounds every single exchange.
    ///
    /// # Errors
    /// If there is no usable certificate, or `server_name` cannot be in one.
    pub fn new(
        address: ServiceAddress,
        server_name: &str,
        certificates: Vec<CertificateDer<'static>>,
        timeout: Duration,
    ) -> Result<Self> {
        let wrong_certificate = |problem: String| Error::Option { option: "--service-cert", problem };
        if certificates.is_empty() {
            return Err(wrong_certificate("the file holds no PEM certificate".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| wrong_certificate(format!("the certificate cannot be used: {error}")))?;
        }
        let wrong_name = |_| Error::Option {
            option: "--server-name",
            problem: format!("{server_name:?} is neither a DNS name nor an IP address"),
        };
        let parsed_name =
            ServerName::try_from(server_name.to_owned()).map_err(|error| wrong_name(error.to_string()))?;
        let host = HeaderValue::from_str(server_name).map_err(|error| wrong_name(error.to_string()))?;
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(|error| wrong_certificate(error.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let tls = Some(Tls { server_name: parsed_name, config: Arc::new(config), identity: None });
        Ok(Self { address, host, tls, timeout })
    }

    /// The same, which shows a certificate of this machine.
    ///
    /// # Errors
    /// If that cannot be used, or connections are without TLS.
    pub fn with_identity(mut self, identity: Identity) -> Result<Self> {
        let Some(tls) = &mut self.tls else {
            let problem = "a certificate is shown over https and vsock only".to_owned();
            return Err(Error::Option { option: "--client-cert", problem });
        };
        identity.read()?;
        tls.identity = Some(identity);
        Ok(self)
    }

    /// How long a single exchange may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// If the service cannot be reached or is not the trusted one.
    pub async fn connect(&self) -> Result<Connection> {
        let sender = self.within("accept a connection", self.open()).await?;
        Ok(Connection { client: self.clone(), sender })
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>> {
        let unreachable = |source: io::Error| {
            let address = self.address.to_string();
            match source.raw_os_error() {
                Some(EAFNOSUPPORT | ENODEV) => Error::NoVsock { address, source },
                _ => Error::Connect { address, source },
            }
        };
        let stream: Box<dyn Stream> = match &self.address {
            ServiceAddress::Vsock { cid, port } => {
                Box::new(vsock(VsockAddr::new(*cid, *port)).await.map_err(unreachable)?)
            }
            ServiceAddress::Loopback { port } => {
                Box::new(TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.map_err(unreachable)?)
            }
            ServiceAddress::Tcp { host, port } => {
                Box::new(TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?)
            }
        };
        let stream: Box<dyn Stream> = match &self.tls {
            None => stream,
            Some(Tls { server_name, config, identity }) => {
                let mut config = Arc::clone(config);
                if let Some(identity) = identity {
                    Arc::make_mut(&mut config).client_auth_cert_resolver = Arc::new(identity.read()?);
                }
                Box::new(TlsConnector::from(config).connect(server_name.clone(), stream).await.map_err(
                    |source| Error::Tls {
                        address: self.address.to_string(),
                        server_name: server_name.to_str().into_owned(),
                        source,
                    },
                )?)
            }
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_LEN)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| Error::Http { endpoint: "connection set-up", source: source.into() })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the attestation service ended");
            }
        });
        Ok(sender)
    }

    async fn within<T>(&self, what: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or(Err(Error::Timeout { what, limit: self.timeout }))
    }
}

/// A connection to the service; opened anew when the service has closed it between two exchanges.
pub struct Connection {
    client: Client,
    sender: SendRequest<Full<Bytes>>,
}

/// What goes along with a request as headers.
#[derive(Default, Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) cookie: Option<&'a str>,
    pub(crate) bearer: Option<&'a str>,
    /// Whose machine this is, for a Global Trust Authority.
    pub(crate) tenant: Option<&'a str>,
    pub(crate) api_key: Option<&'a str>,
}

/// A successful answer of the service.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Connection {
    /// Posts JSON; `endpoint` is the method and path, as it appears in messages.
    pub(crate) async fn post(
        &mut self,
        endpoint: &'static str,
        credentials: Credentials<'_>,
        body: &serde_json::Value,
    ) -> Result<Answer> {
        self.ask(endpoint, credentials, body.to_string()).await
    }

    /// As [`Self::post`], of JSON that is written already.
    pub(crate) async fn post_text(
        &mut self,
        endpoint: &'static str,
        credentials: Credentials<'_>,
        body: String,
    ) -> Result<Answer> {
        self.ask(endpoint, credentials, body).await
    }

    /// Gets something that is public.
    pub(crate) async fn get(&mut self, endpoint: &'static str) -> Result<Answer> {
        self.ask(endpoint, Credentials::default(), String::new()).await
    }

    async fn ask(
        &mut self,
        endpoint: &'static str,
        credentials: Credentials<'_>,
        body: String,
    ) -> Result<Answer> {
        let request = self.request(endpoint, credentials, body)?;
        let client = self.client.clone();
        // Not ready means closed: the exchange before this one was answered in full.
        if self.sender.ready().await.is_err() {
            self.sender = client.within("accept a connection", client.open()).await?;
        }
        client.within("answer", self.exchange(endpoint, request)).await
    }

    fn request(
        &self,
        endpoint: &'static str,
        credentials: Credentials<'_>,
        body: String,
    ) -> Result<Request<Full<Bytes>>> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Http { endpoint, source };
        let (method, path) = endpoint.split_once(' ').unwrap_or(("GET", endpoint));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.client.host)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(error.into()))?;
        if request.method() == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let secret = |headers: &mut HeaderMap, name: HeaderName, value: String| -> Result<()> {
            let mut value = HeaderValue::try_from(value).map_err(|error| failed(error.into()))?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok(())
        };
        let headers = request.headers_mut();
        if let Some(cookie) = credentials.cookie {
            secret(headers, COOKIE, cookie.to_owned())?;
            // secGear's services compare the challenge with the session's only if this is there.
            headers.insert("as-challenge", HeaderValue::from_static("as"));
        }
        if let Some(token) = credentials.bearer {
            secret(headers, AUTHORIZATION, format!("Bearer {token}"))?;
        }
        if let Some(tenant) = credentials.tenant {
            let tenant = HeaderValue::try_from(tenant).map_err(|error| failed(error.into()))?;
            headers.insert("user-id", tenant);
        }
        if let Some(key) = credentials.api_key {
            secret(headers, HeaderName::from_static("api-key"), key.to_owned())?;
        }
        Ok(request)
    }

    async fn exchange(&mut self, endpoint: &'static str, request: Request<Full<Bytes>>) -> Result<Answer> {
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|source| Error::Http { endpoint, source: source.into() })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_LEN).collect().await.map_err(|source| {
            if source.is::<LengthLimitError>() {
                Error::Interface { endpoint, problem: format!("the answer is over {MAX_ANSWER_LEN} bytes") }
            } else {
                Error::Http { endpoint, source }
            }
        })?;
        let body = body.to_bytes();
        if head.status == StatusCode::OK {
            return Ok(Answer { headers: head.headers, body });
        }
        Err(match Refusal::from_body(head.status.as_u16(), &body) {
            // Too many requests is about the service, not about this guest.
            Some(reason) if head.status.is_client_error() && head.status != StatusCode::TOO_MANY_REQUESTS => {
                Error::Refused(reason)
            }
            Some(reason) => Error::Unavailable(reason),
            None => {
                Error::Interface { endpoint, problem: format!("status {} without a reason", head.status) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_addresses_of_the_manual() {
        for text in [
            "vsock://2:8443",
            "vsock://2:4294967295",
            "https://as.example:8443",
            "https://[::1]:443",
            "http://127.0.0.1:8080",
        ] {
            assert_eq!(text.parse::<ServiceAddress>().unwrap().to_string(), text);
        }
        let ipv6: ServiceAddress = "https://[::1]:443/".parse().unwrap();
        assert_eq!(ipv6.default_server_name(), Some("::1"));
    }

    #[test]
    fn refuses_addresses_without_tls_or_port() {
        for text in [
            "",
            "http://as.example:80",
            "http://127.0.0.1.as.example:80",
            "http://127.0.0.1",
            "http://10.0.0.1:80",
            "https://as.example",
            "https://:1",
            "https://[]:1",
            "https://::1:443",
            "https://user@host:1",
            "https://host:1/path",
            "https://host:65536",
            "vsock://host:1",
            "vsock://2",
            "ftp://host:1",
        ] {
            assert!(text.parse::<ServiceAddress>().is_err(), "{text}");
        }
    }
}
