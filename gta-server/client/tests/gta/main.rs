//! The program against a server over TLS, and a machine with swtpm that knows tpm2-tools only.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod broken;
#[path = "../../../tests/support/issuer.rs"]
mod issuer;
mod world;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use attestation_agent::gta::machine::Challenge;
use attestation_agent::gta::measurement::{AttesterType, NonceType};
use attestation_agent::gta::options::Options;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gta_server::model::{Node, Role};
use gta_server::service::Settings;
use serde_json::{Value, json};
use service_kit::oidc::Issuers;
use sha2::Digest as _;
use test_swtpm::Swtpm;
use verifier::testing::Authority;

use crate::issuer::{Issuer, SigningKey};
use crate::world::{TENANT, World, complaint, gta, rows, said};

const REGO: &str = "package verification\nresult := {\"policy_matched\": true}\n";

#[test]
fn explains_itself_and_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help"][..],
        &["node", "--help"],
        &["policy", "add", "--help"],
        &["completions", "bash"],
        &["man"],
        &["--version"],
    ] {
        assert!(!said(&gta(directory.path(), arguments).output().unwrap()).is_empty(), "{arguments:?}");
    }
    assert!(said(&gta(directory.path(), &["--help"]).output().unwrap()).contains("Examples:"));
    let complains = |arguments: &[&str]| complaint(&gta(directory.path(), arguments).output().unwrap());
    let server = ["node", "list", "--server", "https://localhost:1"];
    assert!(complains(&["node", "list"]).contains("--server"));
    assert!(complains(&server).contains("--tenant"));
    let tenant = [&server[..], &["--tenant", "acme"]].concat();
    assert!(complains(&tenant).contains("--api-key-file"));
    let key = [&tenant[..], &["--api-key-file", "key"]].concat();
    assert!(complains(&key).contains("--api-key-file key"));
    fs::write(directory.path().join("key"), "x").unwrap();
    assert!(complains(&key).contains("--ca"));
    assert!(complains(&["node", "frobnicate"]).contains("frobnicate"));
    // What deletes must be told what.
    assert!(complains(&["policy", "delete"]).contains("--all"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_registers_is_added_shown_changed_and_deleted() {
    let world = World::new().await;
    world.write("policy.rego", REGO);
    let types = ["--type", "tpm_boot,tpm_ima"];
    let add =
        [&["policy", "add", "--name", "easy", "--rego", "policy.rego", "--default"][..], &types].concat();
    let id = world.json(&add)["policy"]["id"].as_str().unwrap().to_owned();
    assert!(world.complains(&add).contains("there is already"), "{}", world.complains(&add));
    let table = world.says(&["policy", "list"]);
    assert_eq!(rows(&table)[0][..3], [id.as_str(), "easy", "tpm_boot,tpm_ima"], "{table}");
    assert_eq!(world.json(&["policy", "list", "--format", "json"])[0]["name"], "easy");
    assert_eq!(world.says(&["policy", "show", &id]), REGO);
    let update = ["policy", "update", &id, "--name", "harder", "--type", "tpm_ima", "--default", "false"];
    assert_eq!(world.json(&update)["policy"]["version"], 2);
    let changed = world.json(&["policy", "show", &id, "--json"]);
    assert_eq!((&changed["name"], &changed["is_default"]), (&Value::from("harder"), &Value::from(false)));
    world.write("rules.json", r#"{"virtcca": {"allow_legacy": true}}"#);
    world.json(&["policy", "update", &id, "--rules", "rules.json"]);
    let changed = world.json(&["policy", "show", &id, "--json"]);
    assert_eq!(changed["rules"]["virtcca"]["allow_legacy"], true);
    world.write("rules.json", "{");
    assert!(world.complains(&["policy", "update", &id, "--rules", "rules.json"]).contains("not JSON"));
    assert_eq!(rows(&world.says(&["policy", "list", "--type", "tpm_boot"])).len(), 0);
    assert!(world.complains(&["policy", "update", &id]).contains("say what to change"));
    assert!(world.complains(&["policy", "delete", &id, "nobody"]).contains("unknown"));
    world.says(&["policy", "delete", &id]);
    assert!(world.complains(&["policy", "show", &id]).contains(&id));
    world.write("policy.rego", "nonsense");
    assert!(world.complains(&add).starts_with("gta: policy_invalid"), "{}", world.complains(&add));

    let signer = rcgen::generate_simple_self_signed(vec!["signer".to_owned()]).unwrap();
    world.write("signer.pem", signer.cert.pem());
    let add = ["cert", "add", "--name", "signer", "--type", "refvalue,policy", "--pem", "signer.pem"];
    let id = world.json(&add)["cert"]["cert_id"].as_str().unwrap().to_owned();
    assert_eq!(world.says(&["cert", "show", &id]), signer.cert.pem());
    world.json(&["cert", "update", &id, "--type", "refvalue"]);
    assert_eq!(rows(&world.says(&["cert", "list"])), [[id.as_str(), "signer", "refvalue", "2"]]);
    assert_eq!(rows(&world.says(&["cert", "crls"])).len(), 0);
    let wrong = ["cert", "add", "--name", "x", "--type", "crl,policy", "--pem", "signer.pem"];
    assert!(world.complains(&wrong).contains("--type"));
    world.write("files.jwt", "a.b.c");
    let add = ["ref", "add", "--name", "files", "--file", "files.jwt"];
    assert!(world.complains(&add).contains("signature_invalid"));
    let of_type = |kind| world.complains(&[&add[..], &["--type", kind]].concat());
    assert!(of_type("virt_cca").contains("signature_invalid"));
    assert!(of_type("tpm_boot").contains("signature_invalid"));
    assert_eq!(rows(&world.says(&["ref", "list"])).len(), 0);
    world.says(&["cert", "delete", "--all"]);
    assert_eq!(rows(&world.says(&["cert", "list"])).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_files_is_made_of_what_an_operator_has() {
    use evidence::bank::Bank;
    use evidence::ima::{FileDigest, LogWriter, Template};
    use evidence::tcg::{EventLog, EventType};
    let world = World::new().await;
    let digest = |content: &str| format!("sha256:{}", hex::encode(sha2::Sha256::digest(content)));
    fs::create_dir_all(world.path("tree/usr/bin")).unwrap();
    world.write("tree/usr/bin/a", "a");
    world.write("tree/usr/bin/empty", "");
    std::os::unix::fs::symlink("a", world.path("tree/usr/bin/link")).unwrap();
    fs::create_dir_all(world.path("package/DEBIAN")).unwrap();
    fs::create_dir_all(world.path("package/lib")).unwrap();
    world.write(
        "package/DEBIAN/control",
        "Package: b\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: b\n",
    );
    world.write("package/lib/b.so", "b");
    let build = Command::new("dpkg-deb")
        .current_dir(world.directory.path())
        .args(["--build", "package", "b.deb"])
        .output();
    said(&build.unwrap());
    let mut log = LogWriter::default();
    let one = FileDigest { verity: false, algorithm: "sha512", value: &[7; 64] };
    log.measure(10, Template::ImaNg, one, b"boot_aggregate", &[]);
    log.measure(10, Template::ImaNg, one, b"/usr/bin/c", &[]);
    log.violate(10, b"/var/log/wtmp");
    world.write("ima", log.finish());
    world.write("policy.json", r#"{"meta": {"version": 1}, "digests": {"/usr/bin/d": ["11"]}}"#);
    let make = [
        "ref",
        "make",
        "--tree",
        "tree",
        "--deb",
        "b.deb",
        "--ima-log",
        "ima",
        "--exclude",
        "/var/*",
        "--ignore-buffer",
        ".ima",
    ];
    let files = serde_json::json!({
        "/usr/bin/a": [digest("a")], "/usr/bin/empty": [digest("")], "/usr/bin/c": [one.to_string()],
        "/lib/b.so": [digest("b")], "/usr/lib/b.so": [digest("b")],
    });
    let expected = serde_json::json!({ "ima": {
        "files": files, "exclude": ["/var/*"], "ignored_buffers": [".ima"],
    } });
    assert_eq!(world.json(&make), expected);

    for (name, algorithm) in
        [("P-256", &rcgen::PKCS_ECDSA_P256_SHA256), ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384)]
    {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["signer".to_owned()]).unwrap().self_signed(&key).unwrap();
        world.write("signer.pem", certificate.pem());
        world.write("signer.key", key.serialize_pem());
        world.json(&["cert", "add", "--name", name, "--type", "refvalue", "--pem", "signer.pem"]);
        world.says(&[&make[..], &["--key", "signer.key", "--out", "files.jwt"]].concat());
        world.json(&["ref", "add", "--name", name, "--file", "files.jwt"]);
    }
    let mut boot = EventLog::crypto_agile(0, &[Bank::Sha256]);
    boot.measure(4, EventType::EFI_BOOT_SERVICES_APPLICATION, b"shim", &[][..]);
    world.write("boot", boot.encode());
    let make = ["ref", "make", "--boot-log", "boot", "--key", "signer.key", "--out", "boot.jwt"];
    world.says(&make);
    world.json(&["ref", "add", "--name", "boot", "--type", "tpm_boot", "--file", "boot.jwt"]);
    assert_eq!(world.json(&make[..4])["boot"]["applications"].as_array().unwrap().len(), 1);
    // The server judges what is passed on.
    world.says(&["ref", "make", "--keylime", "policy.json", "--key", "signer.key", "--out", "files.jwt"]);
    let refused = world.complains(&["ref", "add", "--name", "keylime", "--file", "files.jwt"]);
    assert!(refused.contains("runtime policy"), "{refused}");
    world.write("rpm", "coreutils-9.1-1.x86_64\n");
    for (arguments, complaint) in [
        (&[][..], "nothing is known"),
        (&["--rpm-dump", "rpm"], "--rpm-dump rpm: line 1"),
        (&["--deb", "ima"], "--deb ima: dpkg-deb cannot unpack it"),
        (&["--ima-log", "b.deb"], "--ima-log b.deb"),
        (&["--tree", "nowhere"], "--tree nowhere"),
        (&["--boot-log", "ima"], "--boot-log ima"),
        (&["--exclude", "/var/*", "--key", "signer.pem"], "--key: expected a private key"),
    ] {
        let refused = world.complains(&[&["ref", "make"], arguments].concat());
        assert!(refused.contains(complaint), "{arguments:?}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_longer_than_a_page_are_whole() {
    let world = World::new().await;
    let tpm = Swtpm::start().unwrap();
    let create = ["-C", "e", "-g", "sha256", "-G", "ecc256:ecdsa-sha256:null", "-c", "ak.ctx", "-Q", "-a"];
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    tpm.tool("tpm2_createprimary", create.iter().chain(&[attributes])).unwrap();
    tpm.tool("tpm2_readpublic", ["-c", "ak.ctx", "-f", "tss", "-o", "ak.pub", "-Q"]).unwrap();
    world.write("ak.pub", tpm.read("ak.pub").unwrap());
    world.says(&["node", "pin", "node 000", "--ak-public", "ak.pub"]);
    // Pages have 100.
    let names: Vec<String> = (0..102).map(|number| format!("node {number:03}")).collect();
    let pinned = world.service.store.get::<Node>(TENANT, "node 000").await.unwrap().unwrap().body;
    let mut change = world.service.store.change("test").await.unwrap();
    for name in &names[1..] {
        change.add(TENANT, name, name, &pinned).await.unwrap();
    }
    change.commit().await.unwrap();
    let nodes = world.json(&["node", "list", "--format", "json"]);
    let listed: Vec<&str> =
        nodes.as_array().unwrap().iter().map(|n| n["node_id"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
    assert!(world.says(&["node", "list"]).contains("node 101  pinned"), "{}", world.says(&["node", "list"]));
    world.says(&["node", "delete", "node 000", "node 101"]);
    assert_eq!(world.json(&["node", "list", "--format", "json"]).as_array().unwrap().len(), 100);
    assert_eq!(world.json(&["node", "show", "node 001"])["provenance"]["kind"], "pinned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_enrolled_by_files_and_its_evidence_and_token_are_judged() {
    let world = World::new().await;
    let tpm = Swtpm::start().unwrap();
    let tool = |program: &str, arguments: &[&str]| tpm.tool(program, arguments).unwrap();
    let take = |name: &str| world.write(name, tpm.read(name).unwrap());
    tool("tpm2_createek", &["-c", "ek.ctx", "-u", "ek.pub", "-G", "rsa", "-Q"]);
    tool(
        "tpm2_createak",
        &[
            "-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.pub", "-f", "tss", "-G", "ecc", "-s", "ecdsa", "-g",
            "sha256", "-Q",
        ],
    );
    tool("tpm2_evictcontrol", &["-C", "o", "-c", "ak.ctx", "0x81010020", "-Q"]);
    tool("tpm2_nvread", &["0x01c00002", "-o", "ek.der"]);
    ["ek.pub", "ak.pub", "ek.der"].into_iter().for_each(take);
    let enrol: &[&str] = &[
        "enroll",
        "--node",
        "web-7",
        "--ek-certificate",
        "ek.der",
        "--ek-public",
        "ek.pub",
        "--ak-public",
        "ak.pub",
        "--credential",
        "credential",
    ];
    let refused = complaint(&world.run("agent.key", enrol));
    assert!(refused.contains("certificate_untrusted"), "{refused}");
    world.write("makers.pem", tpm.manufacturer().unwrap());
    world.says(&["cert", "add", "--name", "makers", "--type", "tpm_ek", "--pem", "makers.pem"]);
    let begun: Value = serde_json::from_str(&said(&world.run("agent.key", enrol))).unwrap();
    tpm.write("credential", &fs::read(world.path("credential")).unwrap()).unwrap();
    tool("tpm2_startauthsession", &["--policy-session", "-S", "session.ctx"]);
    tool("tpm2_policysecret", &["-S", "session.ctx", "-c", "e", "-Q"]);
    tool(
        "tpm2_activatecredential",
        &["-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "opened", "-P", "session:session.ctx"],
    );
    tool("tpm2_flushcontext", &["session.ctx"]);
    take("opened");
    let id = begun["enrollment_id"].as_str().unwrap();
    said(&world.run("agent.key", &["activate", "--enrollment", id, "--opened", "opened"]));
    assert!(world.says(&["node", "list"]).contains("activated"));

    world.write("policy.rego", REGO);
    world.says(&[
        "policy",
        "add",
        "--name",
        "easy",
        "--type",
        "tpm_boot",
        "--rego",
        "policy.rego",
        "--default",
    ]);
    let log = evidence::tcg::EventLog::crypto_agile(0, &[evidence::bank::Bank::Sha256]).encode();
    world.write("boot.log", log);
    let machine = Options {
        node_id: Some("web-7".to_owned()),
        tpm: Some(format!("swtpm:path={}", tpm.socket().display())),
        attesters: Some(vec![AttesterType::TpmBoot]),
        boot_log: Some(world.path("boot.log")),
        ..Options::default()
    };
    let evidence = || {
        let nonce = said(&world.run("agent.key", &["nonce", "--node", "web-7"]));
        let nonce = STANDARD.decode(nonce.trim()).unwrap();
        let challenge = Challenge { nonce_type: NonceType::Verifier, nonce, attester_data: None };
        let request = machine.machine().unwrap().answer(&challenge, None).unwrap().request;
        world.write("evidence.json", serde_json::to_string(&request).unwrap());
    };
    evidence();
    let attested = world.run("agent.key", &["attest", "evidence.json"]);
    let attested: Value = serde_json::from_str(&said(&attested)).unwrap();
    world.write("token.jwt", attested["tokens"][0]["token"].as_str().unwrap());
    let verified = world.json(&["token", "verify", "token.jwt"]);
    assert_eq!(verified["token_body"]["node_id"], "web-7");
    world.write("token.jwt", "a.b.c");
    assert_eq!(world.run("admin.key", &["token", "verify", "token.jwt"]).status.code(), Some(2));
    let again = complaint(&world.run("agent.key", &["attest", "evidence.json"]));
    assert!(again.contains("nonce_used"), "{again}");
    tool("tpm2_pcrextend", &[&format!("4:sha256={}", "11".repeat(32))]);
    evidence();
    assert_eq!(world.run("agent.key", &["attest", "evidence.json"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_renewed_in_its_file_and_bounds_what_is_allowed() {
    let world = World::new().await;
    assert!(complaint(&world.run("agent.key", &["node", "list"])).starts_with("gta: "));
    let old = fs::read_to_string(world.path("agent.key")).unwrap();
    said(&world.run("agent.key", &["key", "renew"]));
    let new = fs::read_to_string(world.path("agent.key")).unwrap();
    assert_ne!(old, new.trim());
    said(&world.run("agent.key", &["nonce"]));
    world.write("old.key", old);
    let refused = complaint(&world.run("old.key", &["nonce"]));
    assert!(!refused.contains(new.trim()), "{refused}");
    // A renewal that broke off may have left the valid key there.
    world.write("agent.key.new", "kept");
    assert!(complaint(&world.run("agent.key", &["key", "renew"])).contains("agent.key.new"));
    assert_eq!(fs::read_to_string(world.path("agent.key.new")).unwrap(), "kept");
    fs::remove_file(world.path("agent.key.new")).unwrap();
    // One that is refused leaves nothing.
    complaint(&world.run("old.key", &["key", "renew"]));
    assert!(!world.path("old.key.new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_machines_are_and_who_changed_what_is_shown() {
    let world = World::new().await;
    for number in 0..102 {
        world.reports(&format!("node-{number:03}"), None).await;
    }
    world.reports("web-7", None).await;
    world.reports("web-7", Some("/usr/bin/evil\u{1b}[2J")).await;
    let table = world.says(&["status", "--status", "failed"]);
    let [row] = &rows(&table)[..] else { panic!("{table}") };
    assert_eq!((row[0], row[1]), ("web-7", "failed"));
    assert!(table.contains("tpm_ima ima_entry_unknown: /usr/bin/evil[2J"), "{table}");
    let all = world.json(&["status", "--format", "json"]);
    assert_eq!((all.as_array().unwrap().len(), &all[102]["status"]), (103, &json!("failed")));
    let some = world.json(&["status", "web-7", "node-001", "nobody", "--format", "json"]);
    assert_eq!((&some[0]["node_id"], &some[1]["node_id"]), (&json!("node-001"), &json!("web-7")));
    assert!(world.complains(&["status", "a,b"]).contains("not the name"));
    assert!(complaint(&world.run("agent.key", &["status"])).contains("role_missing"));

    let last = world.says(&["event", "--limit", "1"]);
    assert!(last.lines().nth(1).unwrap().contains("web-7  passed  failed  tpm_ima"), "{last}");
    let all = world.json(&["event", "--limit", "1000", "--format", "json"]);
    let numbers: Vec<i64> = all.as_array().unwrap().iter().map(|e| e["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=104).collect::<Vec<_>>());
    let after = world.json(&["event", "--after", "102", "--limit", "1", "--format", "json"]);
    assert_eq!((&after[0]["seq"], after.as_array().unwrap().len()), (&json!(103), 1));
    let of_one = world.json(&["event", "--node", "web-7", "--format", "json"]);
    assert_eq!(of_one.as_array().unwrap().len(), 2);

    world.write("policy.rego", REGO);
    let types = ["--type", "tpm_boot", "--rego", "policy.rego"];
    world.says(&[&["policy", "add", "--name", "easy"][..], &types].concat());
    let audit = world.says(&["audit", "--kind", "policy"]);
    assert!(audit.lines().nth(1).unwrap().contains("added   policy"), "{audit}");
    assert_eq!(rows(&world.says(&["audit", "--kind", "event", "--limit", "103"])).len(), 103);
    assert!(world.complains(&["audit", "--kind", "color"]).contains("kind_unknown"));

    world.says(&["node", "forget", "web-7"]);
    assert_eq!(world.json(&["status", "web-7", "--format", "json"]), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_added_shown_changed_and_deleted() {
    let world = World::new().await;
    let add = ["webhook", "add", "--name", "pager", "--url", "https://pager.example/hook"];
    let added = world.json(&[&add[..], &["--events", "failed,missed", "--receiver-ca", "ca.pem"]].concat());
    let id = added["webhook"]["id"].as_str().unwrap();
    assert!(added["webhook"]["secret"].as_str().unwrap().starts_with("whsec_"));
    let table = world.says(&["webhook", "list"]);
    assert_eq!(rows(&table), [[id, "pager", "failed,missed", "0", "https://pager.example/hook"]]);
    let shown = world.json(&["webhook", "show", id]);
    let ca = fs::read_to_string(world.path("ca.pem")).unwrap();
    assert_eq!((&shown["ca"], &shown["secret"]), (&json!(ca), &Value::Null));
    world.write("none.pem", "");
    let changed = world.json(&["webhook", "update", id, "--new-secret", "--receiver-ca", "none.pem"]);
    assert_ne!(changed["webhook"]["secret"], added["webhook"]["secret"]);
    assert_eq!(world.json(&["webhook", "show", id])["ca"], Value::Null);
    let inside = [&add[..4], &["--url", "https://127.0.0.1/"]].concat();
    assert!(world.complains(&inside).contains("--webhook-allow-private"));
    world.says(&["webhook", "delete", id]);
    assert_eq!(rows(&world.says(&["webhook", "list"])).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_followed_from_what_has_happened() {
    let world = World::new().await;
    world.reports("web-7", None).await;
    let mut process = gta(world.directory.path(), &["event", "--follow", "--format", "json"])
        .env("GTA_SERVER", format!("https://localhost:{}", world.port))
        .env("GTA_CA", "ca.pem")
        .env("GTA_TENANT", TENANT)
        .env("GTA_API_KEY_FILE", "admin.key")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["seq"], 1);
    world.reports("web-7", Some("/evil")).await;
    let event = next();
    assert_eq!((&event["seq"], &event["status"]), (&json!(2), &json!("failed")));
    process.kill().unwrap();
    process.wait().unwrap();
    let refused = complaint(&world.run("agent.key", &["event", "--follow"]));
    assert!(refused.contains("role_missing"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_comes_with_a_token_or_a_certificate() {
    let signing = SigningKey::new("one");
    let issuer = Issuer::start(&[&signing]).await;
    let issuers = Issuers::new(vec![issuer.config()]).unwrap();
    let clients = Authority::root(Authority::ca_params("Clients", 0), &rcgen::PKCS_ECDSA_P256_SHA256);
    let world = World::with(Settings { issuers, ..Settings::default() }, Some(&clients)).await;
    for identity in [format!("sub:{}#alice", issuer.url), "dn:CN=alice,C=CN".to_owned()] {
        world.service.add_identity(TENANT, Role::Auditor, &identity.parse().unwrap(), "test").await.unwrap();
    }
    let now = world.service.now();
    let list = ["policy", "list", "--format", "json"];
    let with = |options: &[&str]| world.run_without_key(&[&list[..], options].concat(), &[]);
    let token = ["--token-file", "token"];
    // Whoever renews the token writes another one into the same file.
    world.write("token", signing.sign(&issuer.claims("alice", now - 600)));
    assert!(complaint(&with(&token)).contains("token_invalid"));
    world.write("token", format!("{}\n", signing.sign(&issuer.claims("alice", now))));
    assert_eq!(said(&with(&token)).trim(), "[]");
    assert_eq!(said(&world.run_without_key(&list, &[("GTA_TOKEN_FILE", "token")])).trim(), "[]");
    for (text, complained) in [("", "expected one token"), ("a b", "expected one token")] {
        world.write("token", text);
        assert!(complaint(&with(&token)).contains(complained));
    }
    assert!(complaint(&with(&["--token-file", "absent"])).contains("--token-file absent"));
    assert!(
        complaint(&with(&["--token-file", "token", "--api-key-file", "admin.key"]))
            .contains("give one of them")
    );
    assert!(complaint(&with(&[])).contains("--client-cert FILE is required"));

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    world.write("me.pem", clients.issue(&Authority::params("alice"), &key).pem());
    world.write("me.key", key.serialize_pem());
    let certificate = ["--client-cert", "me.pem", "--client-key", "me.key"];
    assert_eq!(said(&with(&certificate)).trim(), "[]");
    let environment = [("GTA_CLIENT_CERT", "me.pem"), ("GTA_CLIENT_KEY", "me.key")];
    assert_eq!(said(&world.run_without_key(&list, &environment)).trim(), "[]");
    let beside = [&certificate[..], &["--api-key-file", "agent.key"]].concat();
    assert!(complaint(&with(&beside)).contains("role_missing"), "the key decides");
    assert!(complaint(&with(&["--client-cert", "me.pem"])).contains("go together"));
    assert!(
        complaint(&with(&["--client-cert", "me.key", "--client-key", "me.key"])).contains("--client-cert")
    );
    assert!(
        complaint(&with(&["--client-cert", "me.pem", "--client-key", "server.key"])).contains("together")
    );
    let plain = [&certificate[..], &["--server", "http://127.0.0.1:1"]].concat();
    assert!(complaint(&with(&plain)).contains("https only"));
}
