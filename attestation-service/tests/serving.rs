//! The listeners as processes serve them: certificates that change, operators over TLS, metrics, limits, replicas.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::RETRY_AFTER;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use support::process::{Running, certificate, exchange, request, stop};
use support::{Database, Home};
use test_openbao::OpenBao;
use test_softhsm::SoftHsm;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const DATABASE: Database = Database::Sqlite;

/// An authority of operators.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A client with a certificate for `name`.
    fn client(&self, roots: &RootCertStore, name: &str) -> TlsConnector {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder(roots).with_client_auth_cert(vec![certificate.der().clone()], key).unwrap();
        TlsConnector::from(Arc::new(config))
    }
}

fn builder(roots: &RootCertStore) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    builder.unwrap().with_root_certificates(roots.clone())
}

fn roots(directory: &Path) -> RootCertStore {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("tls.pem")).unwrap()).unwrap();
    roots
}

/// The status of a request to the admin listener, or none if there is no connection.
async fn operator(running: &Running, tls: &TlsConnector, method: Method, path: &str) -> Option<u16> {
    let stream = TcpStream::connect(running.ready["admin_listening"].as_str().unwrap()).await.unwrap();
    let stream = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.ok()?;
    let body = json!({ "name": "a", "rim": "00".repeat(32) });
    Some(exchange(stream, request(method, path, &[], &body)).await?.0.status().as_u16())
}

#[tokio::test]
async fn operators_over_tls_have_the_roles_of_their_certificates() {
    let (home, authority) = (Home::new(), Authority::new());
    let tls = certificate(home.path());
    let ca = home.path().join("operators.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let flags = ["--admin-listen", "127.0.0.1:0", "--admin-client-ca", ca.to_str().unwrap()];
    let roles = ["--admin-role", "policy-admin=CN=alice", "--admin-role", "reader=CN=bob"];
    let running = Running::start_with(home, tls, &[flags.as_slice(), &roles].concat());
    let roots = roots(running.home.path());

    let alice = authority.client(&roots, "alice");
    assert_eq!(operator(&running, &alice, Method::POST, "/references").await, Some(201));
    let bob = authority.client(&roots, "bob");
    assert_eq!(operator(&running, &bob, Method::GET, "/references").await, Some(200));
    assert_eq!(operator(&running, &bob, Method::POST, "/references").await, Some(403));
    let stranger = authority.client(&roots, "mallory");
    assert_eq!(operator(&running, &stranger, Method::GET, "/references").await, Some(403));
    let forged = Authority::new().client(&roots, "alice");
    assert_eq!(operator(&running, &forged, Method::GET, "/references").await, None);
    let nobody = TlsConnector::from(Arc::new(builder(&roots).with_no_client_auth()));
    assert_eq!(operator(&running, &nobody, Method::GET, "/references").await, Some(401));
}

#[test]
fn an_admin_listener_that_nobody_could_use_is_a_mistake() {
    let home = Home::new();
    certificate(home.path());
    let output = support::process::command(&home).args(["--admin-listen", "127.0.0.1:0"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody could use it"));
}

#[tokio::test]
async fn a_service_whose_log_nobody_reads_serves_on() {
    let home = Home::new();
    let tls = certificate(home.path());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut running = Running::start_logging(home, tls, &[], writer.into());
    for _ in 0..3 {
        // Refused, which is logged.
        let wrong = request(Method::POST, "/attestation", &[], &json!({ "challenge": "x" }));
        assert!(running.send(wrong).await.0.status().is_client_error());
    }
    running.told(&["reference", "add", "--name", "a", "--rim", &"00".repeat(32)]);
    assert!(running.child.try_wait().unwrap().is_none());
}

async fn reaches(running: &Running, tls: &TlsConnector) -> bool {
    let stream = TcpStream::connect(running.ready["listening"].as_str().unwrap()).await.unwrap();
    tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.is_ok()
}

/// Waits for what a signal brings about.
async fn eventually(running: &Running, tls: &TlsConnector) -> bool {
    for _ in 0..100 {
        if reaches(running, tls).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

fn hang_up(running: &Running) {
    let process = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let running = Running::start(Home::new());
    let renewed = certificate(running.home.path());
    hang_up(&running);
    assert!(eventually(&running, &renewed).await);
    assert!(!reaches(&running, &running.tls).await, "the old certificate is gone");

    // Without a signal, too.
    let again = certificate(running.home.path());
    assert!(eventually(&running, &again).await);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_leaves_the_old_one() {
    let running = Running::start(Home::new());
    std::fs::write(running.path("tls.key"), "no key").unwrap();
    hang_up(&running);
    let log = || std::fs::read_to_string(running.path("log")).unwrap();
    for _ in 0..100 {
        if log().contains("certificates stay as they were") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(log().contains("--tls-key"), "{}", log());
    assert!(reaches(&running, &running.tls).await);
}

#[tokio::test]
async fn metrics_and_health_are_served_in_clear_where_the_operator_wants_them() {
    let home = Home::new();
    let tls = certificate(home.path());
    let running = Running::start_with(home, tls, &["--metrics-listen", "127.0.0.1:0"]);
    running.send(request(Method::GET, "/challenge", &[], &json!({}))).await;
    let get = async |path| {
        let stream = TcpStream::connect(running.ready["metrics"].as_str().unwrap()).await.unwrap();
        let (answer, text) = exchange(stream, request(Method::GET, path, &[], &json!(null))).await.unwrap();
        (answer.status().as_u16(), text)
    };
    let (status, text) = get("/metrics").await;
    assert_eq!(status, 200);
    let counted = r#"attestation_requests_total{plane="Public",status="200"} 1"#;
    assert!(text.contains(counted), "{text}");
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/challenge").await.0, 404);
}

#[tokio::test]
async fn a_peer_that_asks_too_often_is_told_when_to_come_back() {
    let home = Home::new();
    let tls = certificate(home.path());
    let running = Running::start_with(home, tls, &["--rate-limit", "1", "--rate-burst", "2"]);
    let ask = async || running.send(request(Method::GET, "/healthz", &[], &json!(null))).await;
    let answers = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask());
    let answers = [answers.0, answers.1, answers.2, answers.3, answers.4, answers.5];
    let served = answers.iter().filter(|(answer, _)| answer.status() == 200).count();
    assert!((2..6).contains(&served), "{answers:?}");
    for (refused, text) in answers.iter().filter(|(answer, _)| answer.status() != 200) {
        assert_eq!(refused.status(), 429, "{text}");
        assert!(text.contains("rate_limited"), "{text}");
        let wait: u64 = refused.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=2).contains(&wait));
    }
}

#[tokio::test]
async fn the_log_has_no_secret_in_it() {
    let mut running = Running::start(Home::new());
    let secret = json!({ "name": "acme/key", "content": "dGhlIGRpc2sga2V5IG9mIG91cnM=" });
    let (added, _) = running.try_admin(request(Method::POST, "/resources", &[], &secret)).await.unwrap();
    assert_eq!(added.status(), 201);
    let (_, challenge) =
        running.send(request(Method::GET, "/challenge?user_data=AAAA", &[], &json!(null))).await;
    let master = std::fs::read_to_string(running.path("master.key")).unwrap();
    let log = stop(&mut running.child, &running.home, rustix::process::Signal::TERM);
    for secret in ["dGhlIGRpc2s", "the disk key", challenge.trim_matches('"'), "AAAA", master.trim()] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    assert!(log.contains("/resources") && log.contains("/challenge"), "{log}");
}

#[tokio::test]
async fn a_rewrap_moves_every_secret_to_the_new_master_key() {
    let mut running = Running::start(Home::new());
    let secret = json!({ "name": "acme/key", "content": "AAAA", "policies": ["oeas/affirming.rego"] });
    let (added, text) = running.try_admin(request(Method::POST, "/resources", &[], &secret)).await.unwrap();
    assert_eq!(added.status(), 201, "{text}");
    stop(&mut running.child, &running.home, rustix::process::Signal::TERM);
    let (old, new) = (running.path("old.key"), running.path("master.key"));
    std::fs::rename(&new, &old).unwrap();

    let rewrap = |old: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_attestation-service"));
        command.args(["rewrap", "--database", &running.home.url, "--master-key"]).arg(&new);
        command.arg("--old-master-key").arg(old).output().unwrap()
    };
    let stranger = running.path("stranger.key");
    std::fs::copy(&old, &stranger).unwrap();
    std::fs::write(&stranger, "22".repeat(32)).unwrap();
    let refused = rewrap(&stranger);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("resource:acme/key#1"), "{refused:?}");
    let done = rewrap(&old);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["rewrapped"], 2, "the resource and the signing key");

    std::fs::remove_file(&old).unwrap();
    let running = running.restart();
    let (answer, _) = running.send(request(Method::GET, "/.well-known/jwks.json", &[], &json!(null))).await;
    assert_eq!(answer.status(), 200);
}

/// SoftHSM, whose key OpenSC's pkcs11-tool made.
#[tokio::test]
async fn a_rewrap_moves_every_secret_from_a_file_to_a_token_and_back() {
    let hsm = SoftHsm::new().unwrap();
    hsm.add_key("master", "01", &["--key-type", "AES:32", "--sensitive"]).unwrap();
    let mut running = Running::start(Home::new());
    let secret = json!({ "name": "acme/key", "content": "AAAA", "policies": ["oeas/affirming.rego"] });
    let (added, text) = running.try_admin(request(Method::POST, "/resources", &[], &secret)).await.unwrap();
    assert_eq!(added.status(), 201, "{text}");
    stop(&mut running.child, &running.home, rustix::process::Signal::TERM);

    let token = hsm.uri("master");
    let rewrap = |new: &str, old: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_attestation-service"))
            .env(test_softhsm::CONFIGURATION, hsm.configuration())
            .args(["rewrap", "--database", &running.home.url])
            .args(["--master-key", new, "--old-master-key", old])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let file = running.path("master.key");
    let told = rewrap(&token, file.to_str().unwrap());
    assert_eq!(told["rewrapped"], 2, "the resource and the signing key");
    assert!(told["master_key"].as_str().unwrap().starts_with("pkcs11:"), "{told}");
    std::fs::remove_file(&file).unwrap();
    let told = rewrap(file.to_str().unwrap(), &token);
    assert_eq!(told["rewrapped"], 2);
    let running = running.restart();
    let (answer, _) = running.send(request(Method::GET, "/.well-known/jwks.json", &[], &json!(null))).await;
    assert_eq!(answer.status(), 200);
}

/// OpenBao. A new version of its key is not a new key, and `rewrap` is what lets old versions be retired.
#[tokio::test]
async fn a_rewrap_moves_every_secret_to_a_transit_engine_to_its_next_version_and_back() {
    let bao = OpenBao::start(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    bao.add_key("master", &json!({})).unwrap();
    let mut running = Running::start(Home::new());
    let secret = json!({ "name": "acme/key", "content": "AAAA", "policies": ["oeas/affirming.rego"] });
    let (added, text) = running.try_admin(request(Method::POST, "/resources", &[], &secret)).await.unwrap();
    assert_eq!(added.status(), 201, "{text}");
    stop(&mut running.child, &running.home, rustix::process::Signal::TERM);

    let rewrap = |new: &str, old: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_attestation-service"));
        command.args(["rewrap", "--database", &running.home.url, "--master-key", new]);
        command.args(old.iter().flat_map(|old| ["--old-master-key", old])).output().unwrap()
    };
    let done = |new: &str, old: &[&str]| {
        let output = rewrap(new, old);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        (told["rewrapped"].as_u64().unwrap(), told["master_key"].as_str().unwrap().to_owned())
    };
    let (engine, path) = (bao.uri("master"), running.path("master.key"));
    let file = path.to_str().unwrap();
    let (count, first) = done(&engine, &[file]);
    assert_eq!(count, 2, "the resource and the signing key");
    assert!(first.starts_with("transit:"), "{first}");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(done(&engine, &[]), (0, first.clone()), "all are there already");

    bao.rotate_key("master").unwrap();
    let (count, second) = done(&engine, &[]);
    assert_eq!(count, 2, "what the older version wrapped");
    assert_ne!(second, first);
    bao.configure_key("master", &json!({ "min_decryption_version": 2 })).unwrap();
    bao.rotate_key("master").unwrap();
    assert_eq!(done(&engine, &[]).0, 2);
    // Without it, the server refuses what is left of the older versions, and this says which.
    bao.rotate_key("master").unwrap();
    bao.configure_key("master", &json!({ "min_decryption_version": 4 })).unwrap();
    let refused = rewrap(&engine, &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("resource:acme/key#1"), "{said}");
    assert!(said.contains("set min_decryption_version of the key to 3"), "{said}");
    bao.configure_key("master", &json!({ "min_decryption_version": 3 })).unwrap();

    assert_eq!(done(file, &[&engine]).0, 2);
    let running = running.restart();
    let (answer, _) = running.send(request(Method::GET, "/.well-known/jwks.json", &[], &json!(null))).await;
    assert_eq!(answer.status(), 200);
}
