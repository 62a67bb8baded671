//! The program itself: its commands, its listener, its death.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod process;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gta_server::health::{Reason, Report, Verdict};
use gta_server::model::AttesterType;
use gta_server::service::{Service, Settings};
use gta_server::store::Store;
use gta_server::webhooks::Delivery;
use serde_json::{Value, json};
use service_kit::environment::Environment;
use service_kit::vault::{FileKey, Vault};

use crate::process::{Server, home, printed, run};

#[test]
fn explains_itself_and_its_mistakes() {
    let home = home();
    for arguments in [["--help"].as_slice(), &["serve", "--help"], &["rotate", "--help"]] {
        let output = run(home.path(), arguments);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
    for (arguments, part) in [
        (["--help"].as_slice(), "Examples:"),
        (&["completions", "bash"], "complete -F _gta__server"),
        (&["man"], ".TH gta-server 1"),
    ] {
        let output = run(home.path(), arguments);
        assert!(String::from_utf8_lossy(&output.stdout).contains(part), "{arguments:?}: {output:?}");
    }
    assert!(!home.path().join("gta.db").exists(), "nothing of this needs a database");
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
    let server = Server::start(directory, |_| {});
    let challenge = json!({ "attester_type": ["tpm_boot"] });
    let (status, answer) = server.post(directory, &agent, "/challenge", &challenge);
    assert_eq!(status, 200, "{answer}");
    let metrics = || {
        let arguments = ["--silent", &format!("http://{}/metrics", server.metrics)];
        String::from_utf8(Command::new("curl").args(arguments).output().unwrap().stdout).unwrap()
    };
    assert!(metrics().contains("gta_requests_total{status=\"200\"} 1"), "{}", metrics());
    // Keys are looked after from the beginning.
    while !metrics().contains("gta_key_age_seconds{purpose=\"row\"} ") {
        std::thread::sleep(Duration::from_millis(50));
    }
    let rego = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        "package verification\nresult := {\"policy_matched\": true}",
    );
    let policy = |name: &str| json!({ "name": name, "attester_type": ["tpm_boot"], "content_type": "text", "content": rego });
    assert_eq!(server.post(directory, &agent, "/policy", &policy("a")).0, 403);
    for name in ["a", "b", "c"] {
        assert_eq!(server.post(directory, &key, "/policy", &policy(name)).0, 200);
    }
    // Whoever finds the agent's key can do nothing with it a moment later.
    let id = &agent["API-Key"].as_str().unwrap()[..8];
    let keys = printed(&run(directory, &["list-keys", "acme"]));
    assert!(keys.as_array().unwrap().contains(&json!({ "key": id, "role": "agent" })), "{keys}");
    assert!(run(directory, &["remove-key", "acme", id]).status.success());
    while server.post(directory, &agent, "/challenge", &challenge).0 != 401 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(printed(&run(directory, &["list-keys", "acme"])).as_array().unwrap().len(), 1);
    let again = run(directory, &["remove-key", "acme", id]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("no key that begins with"));
    drop(server);
    let heads = printed(&run(directory, &["fsck"]));
    assert!(heads.as_array().unwrap().iter().any(|head| head["kind"] == "policy" && head["seq"] == 3));
    printed(&run(directory, &["rotate", "row"]));
    let server = Server::start(directory, |_| {});
    assert_eq!(server.post(directory, &key, "/policy", &policy("c")).0, 409);
    drop(server);
    std::fs::write(directory.join("heads"), heads.to_string()).unwrap();
    printed(&run(directory, &["fsck", "--heads", "heads"]));
}

#[test]
fn the_console_is_served_unless_it_is_not_wanted() {
    let home = home();
    let server = Server::start(home.path(), |_| {});
    assert_eq!(server.status(home.path(), "/"), "307");
    assert_eq!(server.status(home.path(), "/console/"), "200");
    drop(server);
    let server = Server::start(home.path(), |command| {
        command.arg("--no-console");
    });
    for path in ["/", "/console/"] {
        assert_eq!(server.status(home.path(), path), "404");
    }
    assert_eq!(server.status(home.path(), "/health"), "200");
}

#[test]
fn a_server_whose_log_nobody_reads_serves_on() {
    let home = home();
    let key = printed(&run(home.path(), &["add-tenant", "acme"]));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let server = Server::start(home.path(), |command| {
        command.stderr(writer);
    });
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

/// Another instance on the same database.
async fn instance(directory: &Path) -> Service {
    let environment = Environment::system();
    let master = FileKey::load_or_create(&directory.join("gta-master.key"), &environment).unwrap();
    let vault = Vault::new(Arc::new(master), Vec::new(), environment.clone());
    let url = format!("sqlite:{}", directory.join("gta.db").display());
    let store = Store::open(&url, vault, environment.clone()).await.unwrap();
    Service::new(store, environment, Settings::default())
}

async fn reports(service: &Service, node: &str) {
    let reason = Reason::new(None, "log_mismatch", "", []);
    let evidences = BTreeMap::from([(AttesterType::TpmBoot, Verdict::of(Some(reason)))]);
    service.note_report("acme", node, &Report { evidences, report_interval: None }).await.unwrap();
}

/// Takes what is posted on this port; gives the bodies.
fn receiver() -> (u16, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.get_mut().write_all(answer).unwrap();
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (port, bodies)
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_told_of_what_happened_while_the_server_was_dead() {
    let home = home();
    let directory = home.path();
    let key = printed(&run(directory, &["add-tenant", "acme"]));
    let (port, bodies) = receiver();
    let webhook = json!({ "name": "pager", "url": format!("http://127.0.0.1:{port}/") });
    let guarded = Server::start(directory, |_| {});
    let (status, refused) = guarded.post(directory, &key, "/webhook", &webhook);
    assert_eq!((status, &refused["code"]), (400, &json!("url_invalid")));
    drop(guarded);
    let start = || {
        Server::start(directory, |command| {
            command.arg("--webhook-allow-private");
        })
    };
    let server = start();
    assert_eq!(server.post(directory, &key, "/webhook", &webhook).0, 200);
    let next = || bodies.recv_timeout(Duration::from_secs(30)).unwrap()["data"]["node_id"].clone();
    let other = instance(directory).await;
    reports(&other, "a").await;
    assert_eq!(next(), "a");
    // Until it has noted that, it would be sent again, a minute later.
    loop {
        let states = other.store.states::<Delivery>("acme").await.unwrap();
        if states[0].1.state == Delivery::new(1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(server);
    reports(&other, "b").await;
    let _server = start();
    assert_eq!(next(), "b");
}
