//! The program itself: its commands, its listener, its death.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod process;

use std::process::Command;

use crate::process::{Server, home, printed, run};
use serde_json::json;

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
        std::thread::sleep(std::time::Duration::from_millis(50));
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
