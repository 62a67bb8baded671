//! A browser without a window: Debian's Chromium, driven over WebDriver. It reaches this machine and nothing else.

pub mod console;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::LoggingPrefsLogLevel;
use thirtyfour::error::WebDriverErrorInner;
use thirtyfour::prelude::*;
use thirtyfour::session::http::{Body, HttpClient};

/// How long is waited for what a page is about to show.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser with nothing in its memory; it ends with this.
pub struct Browser {
    /// Ends the browser when it is dropped, and so comes first.
    pub driver: WebDriver,
    _process: Process,
    _profile: TempDir,
}

struct Process(Child);

impl Browser {
    pub async fn start() -> Self {
        let process = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .env("TZ", "UTC")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start chromedriver: `cargo xtask test` installs Debian's packages chromium and chromium-driver");
        let mut process = Process(process);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            Some(
                line.strip_prefix("ChromeDriver was started successfully on port ")?
                    .trim_end_matches('.')
                    .to_owned(),
            )
        });
        let port = port.expect("chromedriver did not say on which port it listens");
        let profile = tempfile::tempdir().unwrap();
        let mut capabilities = DesiredCapabilities::chrome();
        for argument in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            "--window-size=1200,800",
            "--force-device-scale-factor=1",
            "--hide-scrollbars",
            "--lang=en",
        ] {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display())).unwrap();
        capabilities.set_browser_log_level(LoggingPrefsLogLevel::All).unwrap();
        let driver = WebDriver::builder(format!("http://127.0.0.1:{port}"), capabilities)
            .client(Loopback)
            .await
            .expect("chromedriver starts Debian's package chromium, which `cargo xtask test` installs");
        Self { driver, _process: process, _profile: profile }
    }

    /// Ends the session in order.
    pub async fn close(self) {
        self.driver.clone().quit().await.unwrap();
    }

    /// What the page computes.
    pub async fn run(&self, script: &str) -> Value {
        self.run_with(script, json!([])).await
    }

    pub async fn run_with(&self, script: &str, arguments: Value) -> Value {
        let arguments = arguments.as_array().unwrap().clone();
        self.driver.execute(script, arguments).await.unwrap().json().clone()
    }

    /// Waits until the page computes something that is true, and gives it.
    #[track_caller]
    pub fn until(&self, script: &str) -> impl Future<Output = Value> {
        self.until_with(script, json!([]))
    }

    #[track_caller]
    pub fn until_with(&self, script: &str, arguments: Value) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            let begun = Instant::now();
            loop {
                let value = self.run_with(script, arguments.clone()).await;
                if !matches!(value, Value::Null | Value::Bool(false)) {
                    return value;
                }
                if begun.elapsed() > PATIENCE {
                    let seen = self.run("return document.body.innerText").await;
                    let seen = seen.as_str().unwrap();
                    panic!(
                        "{place}: {script:?} with {arguments} does not come true; the page shows:\n{seen}"
                    );
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Presses keys, with the focus where it is.
    pub async fn keys(&self, keys: impl Into<TypingData>) {
        self.driver.action_chain().send_keys(keys).perform().await.unwrap();
    }

    /// What the browser has complained about since it was last asked.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.driver.browser_log().await.unwrap();
        log.into_iter().map(|entry| entry.message).collect()
    }

    /// Prefers dark colours, or light ones.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.driver.cdp().send_raw("Emulation.setEmulatedMedia", features).await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// HTTP to a driver on this machine, a connection for each request.
struct Loopback;

#[async_trait::async_trait]
impl HttpClient for Loopback {
    async fn send(&self, request: Request<Body<'_>>) -> WebDriverResult<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let failed = |error: &dyn std::error::Error| {
            WebDriverError::from_inner(WebDriverErrorInner::HttpError(error.to_string()))
        };
        let body = match body {
            Body::Empty => Bytes::new(),
            Body::Json(json) => json.to_string().into(),
        };
        let address = parts.uri.authority().unwrap().to_string();
        parts.headers.insert("host", address.parse().unwrap());
        parts.uri = parts.uri.path().parse().unwrap();
        let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        let request = Request::from_parts(parts, Full::new(body));
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    async fn new(&self) -> Arc<dyn HttpClient> {
        Arc::new(Self)
    }
}
