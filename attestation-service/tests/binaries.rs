//! The two binaries as an operator and a guest use them: TLS on the loopback, the admin socket, signals, files.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use hyper::header::{AUTHORIZATION, COOKIE, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use jose::{Curve, EphemeralKey};
use p384::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use support::mint::{ANCHOR, Mint};
use support::process::{Running, certificate, command, request, stop};
use support::{Database, Home};

const DATABASE: Database = Database::Sqlite;

const SECRET: &str = "the disk key";

#[tokio::test]
async fn an_operator_registers_a_guest_and_the_guest_gets_its_secret_over_tls() {
    let running = Running::start(Home::new());
    let mint = Mint::new([0; 64]);
    std::fs::write(running.path("cpak.pem"), mint.public_key_pem()).unwrap();
    std::fs::write(running.path("secret"), SECRET).unwrap();
    let (implementation, instance) =
        (hex::encode(mint.platform.implementation_id), hex::encode(mint.platform.instance_id));
    let (cpak, secret) = (running.path("cpak.pem"), running.path("secret"));
    running.told(&[
        "trust-anchor",
        "add",
        "--name",
        ANCHOR,
        "--implementation-id",
        &implementation,
        "--instance-id",
        &instance,
        "--key",
        cpak.to_str().unwrap(),
        "--source",
        "a test",
    ]);
    running.told(&["reference", "add", "--name", "guest", "--rim", &mint.realm.rim.to_string()]);
    running.told(&[
        "resource",
        "add",
        "acme/disk-key",
        "--file",
        secret.to_str().unwrap(),
        "--policy",
        "oeas/affirming.rego",
    ]);

    let key = EphemeralKey::generate(Curve::P256, &mut rand::rng());
    let user_data = json!({ "user_data": key.public_jwk().thumbprint() });
    let (answer, challenge) = running.send(request(Method::GET, "/challenge", &[], &user_data)).await;
    assert!(answer.headers().contains_key(STRICT_TRANSPORT_SECURITY));
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let challenge: String = serde_json::from_str(&challenge).unwrap();

    let mut attested = [0; 64];
    attested.copy_from_slice(&URL_SAFE_NO_PAD.decode(&challenge).unwrap());
    let evidence = URL_SAFE_NO_PAD.encode(Mint::new(attested).evidence().to_json());
    let body = json!({ "challenge": challenge, "evidence": evidence, "policy_id": null, "tee_key": key.public_jwk() });
    let (answer, token) =
        running.send(request(Method::POST, "/attestation", &[(COOKIE, &cookie)], &body)).await;
    assert_eq!(answer.status(), 200, "{token}");
    let (again, replayed) =
        running.send(request(Method::POST, "/attestation", &[(COOKIE, &cookie)], &body)).await;
    assert_eq!(again.status(), 409, "{replayed}");
    assert!(replayed.contains("challenge_used"), "{replayed}");

    let wanted = json!({ "TeeGet": { "resource": { "vendor": "acme", "path": "disk-key" } } });
    let bearer = format!("Bearer {token}");
    let (answer, sealed) =
        running.send(request(Method::GET, "/resource/storage", &[(AUTHORIZATION, &bearer)], &wanted)).await;
    assert_eq!(answer.status(), 200, "{sealed}");
    let sealed: String = serde_json::from_str(&sealed).unwrap();
    assert_eq!(key.decrypt(&sealed).unwrap().as_slice(), SECRET.as_bytes());
}

#[test]
fn lists_are_tables_or_json_and_errors_say_what_is_wrong() {
    let running = Running::start(Home::new());
    let (rim, rem) = ("ab".repeat(32), format!("2={}", "cd".repeat(32)));
    running.told(&["reference", "add", "--name", "guest", "--rim", &rim, "--rem", &rem]);
    let table = running.told(&["reference", "list"]);
    assert!(table.lines().next().unwrap().contains("RIM"), "{table}");
    assert!(table.contains(&"ab".repeat(32)), "{table}");
    let listed: Value =
        serde_json::from_str(&running.told(&["reference", "list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["rems"][2], "cd".repeat(32));
    running.told(&["reference", "delete", "guest"]);
    let missing = running.client(&["reference", "delete", "guest"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no reference value guest"));
    assert!(running.told(&["policy", "list"]).contains("built in"));
}

#[test]
fn rules_of_a_policy_come_from_a_file() {
    let running = Running::start(Home::new());
    let (rego, rules) = (running.path("vcca.rego"), running.path("rules.json"));
    std::fs::write(&rego, "package attestation\noutput := {\"allow\": true}").unwrap();
    let add = ["policy", "add", "--id", "default_vcca.rego", "--rego", rego.to_str().unwrap(), "--rules"];
    let add = [add.as_slice(), &[rules.to_str().unwrap()]].concat();
    std::fs::write(&rules, r#"{"virtcca": {"lifecycle": []}}"#).unwrap();
    let wrong = running.client(&add);
    assert_eq!(wrong.status.code(), Some(1));
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(text.contains("--rules") && text.contains("lifecycle"), "{text}");
    std::fs::write(&rules, r#"{"virtcca": {"lifecycles": ["recoverable_rot_debug"]}}"#).unwrap();
    running.told(&add);
    let listed: Value = serde_json::from_str(&running.told(&["policy", "list", "--format", "json"])).unwrap();
    let policy =
        listed.as_array().unwrap().iter().find(|policy| policy["id"] == "default_vcca.rego").unwrap();
    assert_eq!(policy["rules"]["virtcca"]["lifecycles"], json!(["recoverable_rot_debug"]));
}

#[test]
fn references_go_out_signed_and_come_in_again() {
    let running = Running::start(Home::new());
    let key = support::mint::key(9);
    let files = ["builder.key", "builder.pem", "guest.corim"].map(|name| running.path(name));
    let [private, public, document] = files.each_ref().map(|path| path.to_str().unwrap());
    std::fs::write(private, key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
    let public_key = p384::PublicKey::from(*key.verifying_key());
    std::fs::write(public, public_key.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
    running.told(&["reference", "add", "--name", "guest", "--rim", &"ab".repeat(32)]);
    let export = ["corim", "export", "realms", "--id", "guests & more", "--creator", "Ex", "--out", document];
    running.told(&[&export[..], &["--sign-key", private]].concat());
    running.told(&["reference", "delete", "guest"]);

    let import = ["corim", "import", document, "--name", "guest"];
    let unknown = running.client(&import);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("corim_signature_invalid"), "{unknown:?}");
    running.told(&["corim-signer", "add", "--name", "builder", "--key", public, "--endorses", "realms"]);
    let imported: Value = serde_json::from_str(&running.told(&import)).unwrap();
    assert_eq!((&imported["id"], &imported["signer"]), (&json!("guests & more"), &json!("builder")));
    assert!(running.told(&["reference", "list"]).contains("CoRIM guests & more signed by builder"));
    let wrong = running.client(&[&export[..], &["--sign-key", public]].concat());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--sign-key"), "{wrong:?}");
}

#[test]
fn a_golden_guests_evidence_becomes_a_reference() {
    let running = Running::start(Home::new());
    let (evidence, document) = (running.path("evidence.json"), running.path("guest.json"));
    std::fs::write(&evidence, Mint::new([1; 64]).evidence().to_json()).unwrap();
    let golden =
        running.told(&["reference", "golden", "--name", "guest", "--evidence", evidence.to_str().unwrap()]);
    std::fs::write(&document, &golden).unwrap();
    running.told(&["reference", "import", document.to_str().unwrap()]);
    let listed: Value =
        serde_json::from_str(&running.told(&["reference", "list", "--format", "json"])).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["rim"]), (&json!("guest"), &json!("11".repeat(32))));
    assert_eq!(
        listed[0]["rems"],
        json!(vec!["00".repeat(32); 4]),
        "what no log explains is expected as it is"
    );
    std::fs::write(&evidence, "{}").unwrap();
    let wrong =
        running.client(&["reference", "golden", "--name", "a", "--evidence", evidence.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("evidence.json"), "{wrong:?}");
}

#[test]
fn keeps_its_files_to_itself_and_keeps_its_key() {
    let mut running = Running::start(Home::new());
    for name in ["db", "master.key", "admin.sock"] {
        let mode = std::fs::metadata(running.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let key = std::fs::read(running.path("master.key")).unwrap();
    stop(&mut running.child, &running.home, rustix::process::Signal::TERM);
    assert!(!running.path("admin.sock").exists());

    let mut again = running.restart();
    stop(&mut again.child, &again.home, rustix::process::Signal::INT);
    assert_eq!(std::fs::read(again.path("master.key")).unwrap(), key);
}

/// Runs the service with one thing wrong and returns what it says.
#[track_caller]
fn complaint(prepare: impl FnOnce(&Path)) -> String {
    let home = Home::new();
    certificate(home.path());
    prepare(home.path());
    let mut child = command(&home).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    if !ready.is_empty() {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("the service did not mind: {ready}");
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_wrong_file_is_reported_with_its_flag() {
    let open = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    };
    let text = complaint(|directory| std::fs::remove_file(directory.join("tls.pem")).unwrap());
    assert!(text.contains("--tls-cert"), "{text}");
    let text = complaint(|directory| std::fs::write(directory.join("tls.pem"), "").unwrap());
    assert!(text.contains("there is no certificate"), "{text}");
    let text = complaint(|directory| std::fs::write(directory.join("tls.key"), "no key").unwrap());
    assert!(text.contains("--tls-key"), "{text}");
    let text = complaint(|directory| {
        let other = tempfile::tempdir().unwrap();
        certificate(other.path());
        std::fs::copy(other.path().join("tls.key"), directory.join("tls.key")).unwrap();
    });
    assert!(text.contains("--tls-cert and --tls-key"), "{text}");
    let text = complaint(|directory| open(directory.join("master.key"), ""));
    assert!(text.contains("--master-key") && text.contains("chmod 600"), "{text}");
    let text = complaint(|directory| open(directory.join("db"), ""));
    assert!(text.contains("--database") && text.contains("chmod 600"), "{text}");
    let text = complaint(|directory| open(directory.join("admin.sock"), ""));
    assert!(text.contains("--admin-socket") && text.contains("not a socket"), "{text}");
}

#[test]
fn a_second_instance_does_not_take_the_admin_socket() {
    let running = Running::start(Home::new());
    let output = command(&running.home).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--admin-socket") && text.contains("in use"), "{text}");
}

#[test]
fn both_binaries_explain_themselves() {
    for binary in [env!("CARGO_BIN_EXE_attestation-service"), env!("CARGO_BIN_EXE_attestation-client")] {
        for arguments in [["--help"].as_slice(), &["completions", "bash"], &["man"]] {
            let output = Command::new(binary).args(arguments).output().unwrap();
            assert!(output.status.success() && !output.stdout.is_empty(), "{binary} {arguments:?}");
        }
        let help = Command::new(binary).arg("--help").output().unwrap();
        assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"));
    }
    let bare = Command::new(env!("CARGO_BIN_EXE_attestation-service")).output().unwrap();
    assert_eq!(bare.status.code(), Some(2));
}
