//! The program as a process.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod connection;
pub mod master_key;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_gta-server");

/// Runs a command to its end.
pub fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).current_dir(directory).args(arguments).output().unwrap()
}

/// What a command has printed that did not fail.
#[track_caller]
pub fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running server; it is killed when this is dropped.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    pub metrics: String,
}

impl Server {
    /// Starts one in `directory`, with what else `configure` gives it; its log goes nowhere.
    pub fn start(directory: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--tls-cert",
            "cert.pem",
            "--tls-key",
            "key.pem",
        ];
        let mut command = Command::new(BINARY);
        command.current_dir(directory).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        configure(&mut command);
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = ready["listening"].as_str().unwrap().parse().unwrap();
        Self { process, address, metrics: ready["metrics"].as_str().unwrap().to_owned() }
    }

    /// The status of what is at a path of its own, as curl sees it.
    pub fn status(&self, directory: &Path, path: &str) -> String {
        let output = Command::new("curl")
            .current_dir(directory)
            .args([
                "--silent",
                "--cacert",
                "cert.pem",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ])
            .arg(format!("https://localhost:{}{path}", self.address.port()))
            .output()
            .expect("`cargo xtask test` installs curl");
        String::from_utf8(output.stdout).unwrap()
    }

    /// curl's answer: the status and the body.
    pub fn post(&self, directory: &Path, key: &Value, path: &str, body: &Value) -> (u16, Value) {
        let header = |name: &str| format!("{name}: {}", key[name].as_str().unwrap());
        let output = Command::new("curl")
            .current_dir(directory)
            .args(["--silent", "--show-error", "--cacert", "cert.pem", "--write-out", "\n%{http_code}"])
            .args(["--header", &header("User-Id"), "--header", &header("API-Key")])
            .args(["--json", &body.to_string()])
            .arg(format!("https://localhost:{}/global-trust-authority/service/v1{path}", self.address.port()))
            .output()
            .expect("`cargo xtask test` installs curl");
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL: what was acknowledged must be there afterwards.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A directory with a server's certificate and key.
pub fn home() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.path().join("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    directory
}
