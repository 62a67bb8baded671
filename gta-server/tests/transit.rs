//! A master key that stays in a server's transit engine: OpenBao's.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use test_openbao::{MOUNT, OpenBao};

use crate::process::master_key::Home;

mod process;

/// The policy that we give to operators, for the key of tests.
fn policy() -> String {
    let text = include_str!("../../packaging/transit-policy.hcl");
    text.replace("\"transit/", &format!("\"{MOUNT}/")).replace("/redoubt\"", "/master\"")
}

struct World {
    bao: OpenBao,
    home: Home,
}

impl World {
    /// A server with a key, and a token that may use it and do nothing else.
    fn new() -> Self {
        let bao = OpenBao::start(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        bao.add_key("master", &json!({ "type": "aes256-gcm96" })).unwrap();
        let token = bao.token("redoubt", &policy()).unwrap();
        bao.write_private("least", &token).unwrap();
        let home = Home::new(None, bao.root());
        Self { bao, home }
    }

    /// The URI of the key, with the token that may do no more than it must.
    fn master(&self) -> String {
        self.with_token("master", &self.bao.path("least"))
    }

    fn with_token(&self, key: &str, token: &Path) -> String {
        let all = self.bao.path("token");
        self.bao.uri(key).replace(all.to_str().unwrap(), token.to_str().unwrap())
    }
}

#[test]
fn what_the_key_seals_it_opens_whatever_its_newest_version_and_no_other_key_does() {
    let world = World::new();
    let master = world.master();
    world.home.done(&master, &["add-tenant", "acme"]);
    world.home.done(&master, &["add-key", "acme", "admin"]);
    world.bao.rotate_key("master").unwrap();
    world.home.done(&master, &["rotate", "row"]);
    world.bao.rotate_key("master").unwrap();
    // What older versions wrapped is opened, even if nothing new may be wrapped by them.
    world.bao.configure_key("master", &json!({ "min_encryption_version": 3 })).unwrap();
    world.home.done(&master, &["rotate", "nonce"]);
    world.home.done(&master, &["fsck"]);

    world.bao.add_key("other", &json!({})).unwrap();
    let said = world.home.fails(&world.bao.uri("other"), &["fsck"]);
    assert!(said.contains("sealed under master key transit:"), "{said}");

    // Until the server does not open it any more.
    world.bao.configure_key("master", &json!({ "min_decryption_version": 2 })).unwrap();
    let said = world.home.fails(&master, &["fsck"]);
    assert!(said.contains("version 1 of the key") && said.contains("min_decryption_version"), "{said}");
    world.bao.configure_key("master", &json!({ "min_decryption_version": 1 })).unwrap();
    world.home.done(&master, &["fsck"]);

    // Or until all is wrapped by the newest.
    world.home.done(&master, &["rewrap"]);
    world.bao.configure_key("master", &json!({ "min_decryption_version": 3 })).unwrap();
    world.home.done(&master, &["fsck"]);
}

#[test]
fn every_type_that_authenticates_what_a_secret_is_for_will_do() {
    let world = World::new();
    for kind in ["chacha20-poly1305", "xchacha20-poly1305"] {
        world.bao.add_key(kind, &json!({ "type": kind })).unwrap();
        let master = world.bao.uri(kind);
        world.home.done(&master, &["add-tenant", "acme"]);
        world.home.done(&master, &["fsck"]);
        fs::remove_file(world.home.path().join("gta.db")).unwrap();
    }
}

#[tokio::test]
async fn what_was_altered_or_belongs_to_something_else_is_not_opened() {
    use sqlx::Connection as _;
    let world = World::new();
    let master = world.master();
    world.home.done(&master, &["add-tenant", "acme"]);
    world.home.done(&master, &["rotate", "row"]);
    world.home.done(&master, &["fsck"]);
    let database = world.home.path().join("gta.db");
    let whole = fs::read(&database).unwrap();
    for (statement, reason) in [
        (
            "UPDATE keys SET wrapped_key = CAST(substr(CAST(wrapped_key AS TEXT), 1, 40) || 'A' ||
             substr(CAST(wrapped_key AS TEXT), 42) AS BLOB)",
            "altered",
        ),
        ("UPDATE keys SET wrapped_key = CAST('vault:v1:AAAA' AS BLOB)", "altered"),
        ("UPDATE keys SET wrapped_key = x''", "altered"),
        ("UPDATE keys SET wrapped_key = CAST('vault:v1:\"}' AS BLOB)", "altered"),
        (
            "UPDATE keys SET wrapped_key =
             (SELECT other.wrapped_key FROM keys other WHERE other.id <> keys.id)",
            "altered",
        ),
        (
            "UPDATE keys SET wrapped_key = CAST('vault:v1:AAAA' AS BLOB), master_key = 'transit:00'",
            "master key transit:00, which was not given",
        ),
        ("UPDATE keys SET master_key = 'file:00'", "master key file:00, which was not given"),
    ] {
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite:{}", database.display())).await.unwrap();
        assert!(sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected() > 0);
        connection.close().await.unwrap();
        let output = world.home.run(&master, &["fsck"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{statement}: {said}");
        fs::write(&database, &whole).unwrap();
        for journal in ["gta.db-wal", "gta.db-shm"] {
            let _ = fs::remove_file(world.home.path().join(journal));
        }
        world.home.done(&master, &["fsck"]);
    }
}

#[test]
fn keys_that_could_leave_the_server_or_are_no_master_keys_are_refused() {
    let world = World::new();
    let keys: [(&str, Value, &str); 7] = [
        ("short", json!({ "type": "aes128-gcm96" }), "its type"),
        ("rsa", json!({ "type": "rsa-2048" }), "its type"),
        ("signs", json!({ "type": "ed25519" }), "its type"),
        ("derived", json!({ "derived": true }), "derived"),
        ("convergent", json!({ "derived": true, "convergent_encryption": true }), "derived"),
        ("loose", json!({ "exportable": true }), "exportable"),
        ("copied", json!({ "allow_plaintext_backup": true }), "allow_plaintext_backup"),
    ];
    for (name, options, reason) in keys {
        world.bao.add_key(name, &options).unwrap();
        let said = world.home.refused(&world.bao.uri(name));
        assert!(said.contains("cannot be a master key") && said.contains(reason), "{name}: {said}");
    }
    let soft_deleted = format!("{MOUNT}/keys/master/soft-delete");
    world.bao.ask("DELETE", &soft_deleted, &json!({})).unwrap();
    let said = world.home.refused(&world.master());
    assert!(said.contains("it is soft-deleted"), "{said}");
}

#[test]
fn a_key_that_is_not_there_is_not_made() {
    let world = World::new();
    let said = world.home.refused(&world.bao.uri("absent"));
    assert!(said.contains("has no key absent") && said.contains("bao write -f"), "{said}");
    let said = world.home.refused(&world.bao.uri("master").replace(MOUNT, "elsewhere"));
    assert!(said.contains("transit engine at elsewhere"), "{said}");
    world.bao.ask("GET", &format!("{MOUNT}/keys/absent"), &json!({})).unwrap_err();
}

#[test]
fn a_token_that_may_not_or_is_none_is_refused() {
    let world = World::new();
    for missing in ["keys", "encrypt", "decrypt", "hmac"] {
        let rule = format!("path \"{MOUNT}/{missing}/master\"");
        assert!(policy().contains(&rule));
        let rules = policy().replace(&rule, "path \"elsewhere\"");
        let token = world.bao.token(&format!("without-{missing}"), &rules).unwrap();
        let file = world.bao.write_private("partial", &token).unwrap();
        let said = world.home.refused(&world.with_token("master", &file));
        let denied = format!("denies {MOUNT}/{missing}/master");
        assert!(said.contains(&denied) && said.contains("policies must allow"), "{missing:?}: {said}");
        assert!(!said.contains(&token), "{said}");
    }
    let wrong = world.bao.write_private("wrong", "s.314159265").unwrap();
    let said = world.home.refused(&world.with_token("master", &wrong));
    assert!(said.contains("must be valid") && !said.contains("314159265"), "{said}");
    for nothing in ["", "a\u{7}b"] {
        let file = world.bao.write_private("nothing", nothing).unwrap();
        let said = world.home.refused(&world.with_token("master", &file));
        assert!(said.contains("holds no token"), "{said}");
    }
    let said = world.home.refused(&world.with_token("master", &world.bao.path("absent")));
    assert!(said.contains("token-file") && said.contains("absent"), "{said}");
    fs::set_permissions(world.bao.path("least"), Permissions::from_mode(0o640)).unwrap();
    let said = world.home.refused(&world.master());
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn a_server_that_is_not_the_trusted_one_or_does_not_serve_is_refused() {
    let world = World::new();
    let master = world.master();
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let stranger = world.bao.write_private("stranger.pem", &own.cert.pem()).unwrap();
    let ca = world.bao.ca().display().to_string();
    let said = world.home.refused(&master.replace(&ca, stranger.to_str().unwrap()));
    assert!(said.contains("no trusted TLS connection"), "{said}");
    // The authorities that browsers know do not certify it either.
    let said = world.home.refused(&master.replace(&format!("&ca={ca}"), ""));
    assert!(said.contains("no trusted TLS connection"), "{said}");
    // Another name of this machine, which the certificate does not have.
    let said = world.home.refused(&master.replace("127.0.0.1", "127.0.0.2"));
    assert!(said.contains("no connection") || said.contains("no trusted"), "{said}");
    let said = world.home.refused(&master.replace(&ca, "/etc/hostname"));
    assert!(said.contains("expected certificates of authorities"), "{said}");
    let said = world.home.refused(&format!("{master}&namespace=nowhere"));
    assert!(said.contains("(403)") || said.contains("(404)"), "{said}");
    let port = world.bao.address().port().to_string();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let said = world.home.refused(&master.replace(&port, &closed));
    assert!(said.contains("no connection to 127.0.0.1") && said.contains("does the server run"), "{said}");
    let said = world
        .home
        .refused(&master.replace("transit+https", "transit+http").replace(&format!("&ca={ca}"), ""));
    assert!(said.contains("400"), "{said}");
    world.bao.seal().unwrap();
    let said = world.home.refused(&master);
    assert!(said.contains("is sealed"), "{said}");
    world.bao.unseal().unwrap();
    world.home.done(&master, &["add-tenant", "acme"]);
}

#[test]
fn a_server_that_was_sealed_is_used_again_when_it_is_not() {
    let world = World::new();
    let running = world.home.serve(&world.master());
    world.bao.seal().unwrap();
    assert_eq!([running.nonce(), running.nonce()], [503; 2], "{}", running.log());
    assert!(running.log().contains("is sealed"), "{}", running.log());
    world.bao.unseal().unwrap();
    assert_eq!(running.nonce(), 200, "{}", running.log());
}

#[test]
fn a_token_that_an_agent_renews_is_used_without_a_restart() {
    let world = World::new();
    let running = world.home.serve(&world.master());
    let old = fs::read_to_string(world.bao.path("least")).unwrap();
    world.bao.ask("POST", "auth/token/revoke", &json!({ "token": old.trim() })).unwrap();
    assert_eq!(running.nonce(), 503, "{}", running.log());
    assert!(running.log().contains("must be valid") && !running.log().contains(old.trim()));
    let new = world.bao.token("redoubt", &policy()).unwrap();
    world.bao.write_private("least", &new).unwrap();
    assert_eq!(running.nonce(), 200, "{}", running.log());
}

#[test]
fn a_role_gets_tokens_for_itself() {
    let world = World::new();
    let (role, secret) = world.bao.approle("machines/approle", "redoubt").unwrap();
    let file = world.bao.write_private("secret-id", &secret).unwrap();
    let with = |role: &str, mount: &str| {
        let token = format!("token-file={}", world.bao.path("least").display());
        let login = format!("role-id={role}&secret-id-file={}&approle={mount}", file.display());
        world.master().replace(&token, &login)
    };
    let master = with(&role, "machines/approle");
    for (uri, expected) in [
        (with("another", "machines/approle"), "does not accept the role-id"),
        (with(&role, "nowhere"), "auth/nowhere"),
    ] {
        let said = world.home.refused(&uri);
        assert!(said.contains(expected) && !said.contains(&secret), "{said}");
    }
    world.bao.write_private("secret-id", "314159265").unwrap();
    let said = world.home.refused(&master);
    assert!(said.contains("does not accept the role-id") && !said.contains("314159265"), "{said}");
    world.bao.write_private("secret-id", &secret).unwrap();
    let running = world.home.serve(&master);
    // Its first token is over.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(running.nonce(), 200, "{}", running.log());
    assert!(!running.log().contains(&secret), "{}", running.log());
}

#[test]
fn a_key_that_was_rotated_is_still_the_key_for_who_is_running() {
    let world = World::new();
    let running = world.home.serve(&world.master());
    for version in [2, 3] {
        world.bao.rotate_key("master").unwrap();
        world.bao.configure_key("master", &json!({ "min_encryption_version": version })).unwrap();
    }
    assert_eq!(running.nonce(), 200, "{}", running.log());
    drop(running);
    world.home.done(&world.master(), &["fsck"]);
}

/// What was wrapped before cannot be opened by it, and the operator would not notice before a restart.
#[test]
fn another_key_under_the_same_name_is_not_taken_for_the_one_before() {
    let world = World::new();
    let running = world.home.serve(&world.master());
    world.bao.remove_key("master").unwrap();
    assert_eq!(running.nonce(), 503, "{}", running.log());
    world.bao.add_key("master", &json!({})).unwrap();
    for _ in 0..4 {
        assert_eq!(running.nonce(), 503, "{}", running.log());
    }
    assert!(running.log().contains("it is not the key that it was before"), "{}", running.log());
    drop(running);
    let said = world.home.fails(&world.master(), &["fsck"]);
    assert!(said.contains("sealed under master key transit:"), "{said}");
}
