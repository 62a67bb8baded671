//! The program itself: its commands, its listener, its death.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_gta-server");

fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).current_dir(directory).args(arguments).output().unwrap()
}

#[track_caller]
fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running server; it is killed when this is dropped.
struct Server {
    process: Child,
    port: u16,
    metrics: String,
}

impl Server {
    fn start(directory: &Path) -> Self {
        Self::start_logging(directory, Stdio::null())
    }

    fn start_logging(directory: &Path, log: Stdio) -> Self {
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
        command.current_dir(directory).args(arguments).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address: std::net::SocketAddr = ready["listening"].as_str().unwrap().parse().unwrap();
        Self { process, port: address.port(), metrics: ready["metrics"].as_str().unwrap().to_owned() }
    }

    /// curl's answer: the status and the body.
    fn post(&self, directory: &Path, key: &Value, path: &str, body: &Value) -> (u16, Value) {
        let header = |name: &str| format!("{name}: {}", key[name].as_str().unwrap());
        let output = Command::new("curl")
            .current_dir(directory)
            .args(["--silent", "--show-error", "--cacert", "cert.pem", "--write-out", "\n%{http_code}"])
            .args(["--header", &header("User-Id"), "--header", &header("API-Key")])
            .args(["--json", &body.to_string()])
            .arg(format!("https://localhost:{}/global-trust-authority/service/v1{path}", self.port))
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

fn home() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.path().join("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    directory
}

#[test]
fn explains_itself_and_its_mistakes() {
    let home = home();
    for arguments in [["--help"].as_slice(), &["serve", "--help"], &["rotate", "--help"]] {
        let output = run(home.path(), arguments);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
    for (arguments, complaint) in [
        (["add-tenant", "a b"].as_slice(), "a tenant's name is"),
        (&["add-key", "nobody", "agent"], "does not exist"),
        (&["--database", "oracle://x", "fsck"], "sqlite:PATH"),
        (&["--database", "mysql://x", "fsck"], "mariadb://USER@HOST/DATABASE"),
        (&["fsck", "--heads", "nothing"], "cannot read nothing"),
        (&["serve", "--tls-cert", "nothing", "--tls-key", "key.pem"], "nothing"),
    ] {
        let output = run(home.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(complaint), "{arguments:?}: {said}");
    }
}

#[test]
fn serves_over_tls_and_loses_nothing_when_it_is_killed() {
    let home = home();
    let directory = home.path();
    let key = printed(&run(directory, &["add-tenant", "acme"]));
    let again = run(directory, &["add-tenant", "acme"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is already a tenant of this name"));
    let agent = printed(&run(directory, &["add-key", "acme", "agent"]));
    let server = Server::start(directory);
    let challenge = json!({ "attester_type": ["tpm_boot"] });
    let (status, answer) = server.post(directory, &agent, "/challenge", &challenge);
    assert_eq!(status, 200, "{answer}");
    let metrics =
        Command::new("curl").args(["--silent", &format!("http://{}/metrics", server.metrics)]).output();
    let metrics = String::from_utf8(metrics.unwrap().stdout).unwrap();
    assert!(metrics.contains("gta_requests_total{status=\"200\"} 1"), "{metrics}");
    let rego = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        "package verification\nresult := {\"policy_matched\": true}",
    );
    let policy = |name: &str| json!({ "name": name, "attester_type": ["tpm_boot"], "content_type": "text", "content": rego });
    assert_eq!(server.post(directory, &agent, "/policy", &policy("a")).0, 403);
    for name in ["a", "b", "c"] {
        assert_eq!(server.post(directory, &key, "/policy", &policy(name)).0, 200);
    }
    drop(server);
    let heads = printed(&run(directory, &["fsck"]));
    assert!(heads.as_array().unwrap().iter().any(|head| head["kind"] == "policy" && head["seq"] == 3));
    printed(&run(directory, &["rotate", "row"]));
    let server = Server::start(directory);
    assert_eq!(server.post(directory, &key, "/policy", &policy("c")).0, 409);
    drop(server);
    std::fs::write(directory.join("heads"), heads.to_string()).unwrap();
    printed(&run(directory, &["fsck", "--heads", "heads"]));
}

#[test]
fn a_server_whose_log_nobody_reads_serves_on() {
    let home = home();
    let key = printed(&run(home.path(), &["add-tenant", "acme"]));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let server = Server::start_logging(home.path(), writer.into());
    for _ in 0..2 {
        assert_eq!(server.post(home.path(), &key, "/policy", &json!({})).0, 422);
    }
}

#[tokio::test]
async fn fsck_names_the_broken_row_and_fails() {
    use sqlx::Connection as _;
    let home = home();
    printed(&run(home.path(), &["add-tenant", "acme"]));
    let url = format!("sqlite:{}", home.path().join("gta.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("UPDATE documents SET tenant = 'umbrella' WHERE kind = 'api_key'")
        .execute(&mut connection)
        .await
        .unwrap();
    let output = run(home.path(), &["fsck"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("api_key umbrella/") && said.contains("the row was added"), "{said}");
    assert!(said.contains("api_key acme/") && said.contains("the row was removed"), "{said}");
}
