//! A browser without a window: Debian's Chromium, driven over WebDriver. It reaches this machine and nothing else.

pub mod console;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::{ParseError, Url};

/// How long is waited for what a page is about to show.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser with nothing in its memory; it ends with this.
pub struct Browser {
    pub driver: Client,
    _process: Process,
    _profile: TempDir,
}

struct Process(Child);

impl Browser {
    pub async fn start() -> Self {
        // Both end with the test, however it ends: the driver by the signal, the browser by its end of the pipe.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "chromedriver", "--port=0", "--allowed-ips=127.0.0.1"])
            .env("TZ", "UTC")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv is in Debian's package util-linux");
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
        let port = port
            .expect("chromedriver is in Debian's package chromium-driver, which `cargo xtask test` installs");
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--remote-debugging-pipe",
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
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let driver = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("chromedriver starts Debian's package chromium, which `cargo xtask test` installs");
        Self { driver, _process: process, _profile: profile }
    }

    /// Ends the session in order.
    pub async fn close(self) {
        self.driver.close().await.unwrap();
    }

    /// What the page computes.
    pub async fn run(&self, script: &str) -> Value {
        self.run_with(script, json!([])).await
    }

    pub async fn run_with(&self, script: &str, arguments: Value) -> Value {
        let arguments = arguments.as_array().unwrap().clone();
        self.driver.execute(script, arguments).await.unwrap()
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

    /// Types a text, with the focus where it is.
    pub async fn type_text(&self, text: &str) {
        self.press(text.chars()).await;
    }

    /// Presses a key that is no letter.
    pub async fn key(&self, key: Key) {
        self.press([char::from(key)]).await;
    }

    async fn press(&self, keys: impl IntoIterator<Item = char>) {
        let pressed = keys.into_iter().fold(KeyActions::new("keyboard".to_owned()), |pressed, value| {
            pressed.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.driver.perform_actions(pressed).await.unwrap();
    }

    /// What the browser has complained about since it was last asked.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.chromium("se/log", json!({ "type": "browser" })).await;
        let message = |entry: &Value| entry["message"].as_str().unwrap().to_owned();
        log.as_array().unwrap().iter().map(message).collect()
    }

    /// Prefers dark colours, or light ones.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        let command = json!({ "cmd": "Emulation.setEmulatedMedia", "params": features });
        self.chromium("goog/cdp/execute", command).await;
    }

    /// A command that only Chromium's driver knows.
    async fn chromium(&self, path: &'static str, body: Value) -> Value {
        self.driver.issue_cmd(Chromium { path, body }).await.unwrap()
    }
}

#[derive(Debug)]
struct Chromium {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Chromium {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
