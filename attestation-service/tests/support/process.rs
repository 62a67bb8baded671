//! The service as a process of its own.

#![allow(clippy::panic, reason = "a failed test panics")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Home;

/// A running service; it is stopped when dropped.
pub struct Running {
    pub child: Child,
    pub ready: Value,
    pub tls: TlsConnector,
    pub home: Home,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for `localhost` in `directory`.
pub fn certificate(directory: &Path) -> TlsConnector {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

/// The command line of a service in `home`.
pub fn command(home: &Home) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_attestation-service"));
    let file = |name: &str| home.path().join(name);
    command
        .args(["--listen", "127.0.0.1:0", "--rate-limit", "0"])
        .arg("--tls-cert")
        .arg(file("tls.pem"))
        .arg("--tls-key")
        .arg(file("tls.key"))
        .arg("--database")
        .arg(&home.url)
        .arg("--admin-socket")
        .arg(file("admin.sock"))
        .arg("--master-key")
        .arg(file("master.key"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Running {
    pub fn start(home: Home) -> Self {
        let tls = certificate(home.path());
        Self::start_with(home, tls, &[])
    }

    /// With these flags, too. The certificate is in `home` already.
    pub fn start_with(home: Home, tls: TlsConnector, flags: &[&str]) -> Self {
        // Not a pipe: nobody reads it while the service runs.
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        Self::start_logging(home, tls, flags, log.into())
    }

    /// With a log elsewhere.
    pub fn start_logging(home: Home, tls: TlsConnector, flags: &[&str], log: Stdio) -> Self {
        let mut child = command(&home).args(flags).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", log()));
        Self { child, ready, tls, home }
    }

    /// Waits until the service has ended, and starts it again on what is left.
    pub fn restart(mut self) -> Self {
        self.child.wait().unwrap();
        let next = Home { directory: self.home.directory.take(), url: self.home.url.clone() };
        Self::start_with(next, self.tls.clone(), &[])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn client(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_attestation-client"))
            .arg("--admin-socket")
            .arg(self.path("admin.sock"))
            .args(arguments)
            .output()
            .unwrap()
    }

    #[track_caller]
    pub fn told(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sends a request to the public listener.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> (Response<()>, String) {
        self.try_send(request).await.expect("the service answers")
    }

    /// The same while the service may be killed.
    pub async fn try_send(&self, request: Request<Full<Bytes>>) -> Option<(Response<()>, String)> {
        let stream = TcpStream::connect(self.ready["listening"].as_str().unwrap()).await.ok()?;
        let stream = self.tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.ok()?;
        exchange(stream, request).await
    }

    /// Sends a request to the admin socket, while the service may be killed.
    pub async fn try_admin(&self, request: Request<Full<Bytes>>) -> Option<(Response<()>, String)> {
        exchange(UnixStream::connect(self.path("admin.sock")).await.ok()?, request).await
    }
}

/// One request on a connection of its own.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Option<(Response<()>, String)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    drop(sender);
    // The service may close without close_notify once everything was said.
    let _ = connection.await.unwrap();
    Some((Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap()))
}

/// A request with a JSON body.
pub fn request(
    method: Method,
    path: &str,
    headers: &[(HeaderName, &str)],
    body: &Value,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

/// Tells the service to stop, waits until it has, and gives its log.
pub fn stop(child: &mut Child, home: &Home, signal: rustix::process::Signal) -> String {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    let status = child.wait().unwrap();
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("stopping"), "{log}");
    log
}
