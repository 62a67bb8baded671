//! The agent of this project on machines with swtpm: enrolled, attested, refused, and sending only what is new.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod machine;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attestation_agent::Error;
use attestation_agent::collect::{CollectError, EvidenceSource, Request};
use attestation_agent::environment::System;
use attestation_agent::gta::machine::Challenge;
use attestation_agent::gta::measurement::{AttesterType, NonceType};
use attestation_agent::gta::options::KeyAlgorithm;
use attestation_agent::gta::respond::Responder;
use attestation_agent::gta::schedule::{self, Schedule};
use attestation_agent::gta::{Attester, Options, Outcome};
use attestation_agent::rest::{self, ListenAddress, Listener};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::envelope::{Evidence, VirtccaEvidence};
use evidence::hash::Digest;
use evidence::ima::LogWriter;
use evidence::tpm::Public;
use gta_server::model::Role;
use gta_server::service::Settings;
use machine::{Machine, NODE, trust, world, world_with};
use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::{Value, json};
use service_kit::oidc::Issuers;
use service_kit::serve;
use service_kit::serve::tls::{ClientAuthorities, Tls, TlsFiles};
use support::issuer::{Issuer, SigningKey};
use support::{Signer, TENANT, strict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use verifier::testing::{Authority, VirtccaMint};

const DATABASE: support::Database = support::Database::Sqlite;
/// First and next entry of the IMA log.
const fn entries(outcome: &Outcome) -> (Option<u64>, Option<u64>) {
    (outcome.ima_first_entry, outcome.ima_next_entry)
}

#[track_caller]
fn refused(outcome: &Outcome) -> (&str, &str, &str) {
    assert!(!outcome.accepted);
    let reason = &outcome.reasons[0];
    (reason.attester_type, &reason.code, &reason.detail)
}

async fn attest(attester: &Attester) -> Outcome {
    attester.attest(None).await.unwrap()
}

#[track_caller]
fn code<T>(result: Result<T, Error>) -> String {
    result.err().expect("refused").reason().expect("by the authority").code.clone()
}

#[tokio::test]
async fn a_machine_is_enrolled_attested_and_refused_by_name_of_the_file() {
    let mut machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1), ("/usr/bin/my tool", 2)]).await;
    let attester = machine.options(&world, world.instance.listen().await).attester().unwrap();
    machine.measure("/usr/bin/web", &[1; 32]);

    let unknown = attester.attest(None).await;
    assert_eq!(code(unknown), "node_unknown");
    let ak = attester.enrol().await.unwrap();
    let nodes = world.admin.get(&world.instance, &format!("/node?ids={NODE}")).await.ok();
    assert_eq!(nodes["nodes"][0]["provenance"]["kind"], "activated");
    let said = machine.tpm.tool("tpm2_readpublic", ["-c", "0x81010020"]).unwrap();
    assert!(said.contains(&format!("name: {ak}")), "{said}");
    assert_eq!(code(attester.enrol().await), "node_exists");

    let outcome = attest(&attester).await;
    assert!(outcome.accepted, "{:?}", outcome.reasons);
    assert_eq!(entries(&outcome), (Some(0), Some(2)));
    assert_eq!(std::fs::read_to_string(machine.path("token")).unwrap(), outcome.token);
    let verified = json!({ "token": outcome.token });
    let verified = world.agent.post(&world.instance, "/token/verify", &verified).await.ok();
    assert_eq!(verified["token_body"]["tpm_boot"]["policy_info"][0]["custom_data"]["secure_boot"], true);

    // Only what is new is sent; also by an agent that was started anew.
    machine.measure("/usr/bin/my tool", &[2; 32]);
    let attester = machine.options(&world, world.instance.listen().await).attester().unwrap();
    assert_eq!(entries(&attest(&attester).await), (Some(2), Some(3)));
    let outcome = attest(&attester).await;
    assert!(outcome.accepted && entries(&outcome) == (Some(3), Some(3)));

    // Somebody changes a program and starts it.
    machine.measure("/usr/bin/web", &[9; 32]);
    for _ in 0..2 {
        let outcome = attest(&attester).await;
        let (kind, code, detail) = refused(&outcome);
        assert_eq!((kind, code), ("tpm_ima", "ima_entry_unknown"));
        assert!(detail.contains("/usr/bin/web"), "{detail}");
        // It is judged again each time.
        assert_eq!(entries(&outcome), (Some(3), Some(3)));
        assert!(!machine.path("token").exists());
    }
}

/// A public key, by its point.
struct P384(Vec<u8>);

impl rcgen::PublicKeyData for P384 {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P384_SHA384
    }
}

/// The maker left a key in the TPM, and its certificate outside.
#[tokio::test]
async fn a_machine_is_enrolled_by_the_key_that_its_maker_certified() {
    let machine = Machine::start();
    let world = world(&machine, &[("/a", 1)]).await;
    let port = world.instance.listen().await;
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    let create = [
        "-C",
        "e",
        "-G",
        "ecc384:ecdsa-sha384:null",
        "-g",
        "sha384",
        "-a",
        attributes,
        "-c",
        "iak.ctx",
        "-Q",
    ];
    machine.tpm.tool("tpm2_createprimary", create).unwrap();
    machine.tpm.tool("tpm2_evictcontrol", ["-C", "o", "-c", "iak.ctx", "0x81010030", "-Q"]).unwrap();
    machine.tpm.tool("tpm2_readpublic", ["-c", "0x81010030", "-f", "tss", "-o", "iak.pub", "-Q"]).unwrap();
    let maker = Authority::root(Authority::ca_params("Maker", 1), &rcgen::PKCS_ECDSA_P384_SHA384);
    let mut params = Authority::params("IAK");
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let public = Public::decode_sized(&machine.tpm.read("iak.pub").unwrap()).unwrap();
    let public = P384(public.key.sec1_point().unwrap());
    machine.tpm.write("iak.pem", maker.certify(&params, &public).pem().as_bytes()).unwrap();
    let options = Options {
        initial_key: Some("0x81010030".to_owned()),
        initial_certificate: Some(machine.path("iak.pem")),
        attesters: Some(vec![AttesterType::TpmBoot]),
        ..machine.options(&world, port)
    };
    let attester = options.attester().unwrap();
    // Of this maker nobody has heard.
    assert_eq!(code(attester.enrol_and_attest(None).await), "certificate_untrusted");
    let certificates = json!({ "name": "iak maker", "type": ["tpm_iak"], "content": maker.pem() });
    world.admin.post(&world.instance, "/cert", &certificates).await.ok();
    assert!(attester.enrol_and_attest(None).await.unwrap().accepted);
    let nodes = world.admin.get(&world.instance, "/node").await.ok();
    assert_eq!(nodes["nodes"][0]["provenance"]["kind"], "certified", "{nodes}");
    // Where there is no key, none can certify.
    let absent =
        Options { initial_key: Some("0x81010031".to_owned()), node_id: Some("web-8".to_owned()), ..options };
    let error = absent.attester().unwrap().enrol().await.unwrap_err();
    assert!(format!("{error:?}").contains("NoInitialKey"), "{error:?}");
}

#[tokio::test]
async fn what_the_log_does_not_explain_is_refused_until_the_machine_is_started_anew() {
    let mut machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let options = Options {
        ak_algorithm: Some(KeyAlgorithm::Rsapss),
        ..machine.options(&world, world.instance.listen().await)
    };
    let attester = options.attester().unwrap();
    assert!(attester.enrol_and_attest(None).await.unwrap().accepted);
    machine.measure("/usr/bin/web", &[1; 32]);
    assert!(attest(&attester).await.accepted);

    machine.extend(4, &[0x11; 32]);
    let outcome = attest(&attester).await;
    assert_eq!(refused(&outcome).0, "tpm_boot");
    assert_eq!(refused(&outcome).1, "log_mismatch");
    // It is not the log of IMA that is at fault, so that is not sent again.
    assert_eq!(entries(&outcome), (Some(2), Some(2)));

    // Linux measured what is not in its log.
    machine.extend(10, &[0x22; 32]);
    let outcome = attest(&attester).await;
    assert!(outcome.reasons.iter().any(|r| r.attester_type == "tpm_ima" && r.code == "log_mismatch"));

    machine.tpm.reset().unwrap();
    machine.boot();
    let outcome = attest(&attester).await;
    assert!(outcome.accepted, "{:?}", outcome.reasons);
    assert_eq!(entries(&outcome), (Some(0), Some(1)));
}

#[tokio::test]
async fn an_authority_that_has_forgotten_the_log_gets_all_of_it() {
    let mut machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let attester = machine.options(&world, world.instance.listen().await).attester().unwrap();
    machine.measure("/usr/bin/web", &[1; 32]);
    attester.enrol_and_attest(None).await.unwrap();
    assert_eq!(entries(&attest(&attester).await), (Some(2), Some(2)));
    assert_eq!(world.home.sql("DELETE FROM states WHERE kind = 'tpm_state'").await, 1);
    let outcome = attest(&attester).await;
    assert!(outcome.accepted, "{:?}", outcome.reasons);
    assert_eq!(entries(&outcome), (Some(0), Some(2)));
    // And a log that is shorter than what was sent is another one, which is sent whole and refused.
    machine.tpm.write("ima.log", &LogWriter::default().finish()).unwrap();
    let outcome = attest(&attester).await;
    assert!(!outcome.accepted);
    assert_eq!(outcome.ima_first_entry, Some(0));
}

#[tokio::test]
async fn a_machine_that_was_forgotten_is_enrolled_anew_and_one_that_forgot_is_still_known() {
    let mut machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let attester = machine.options(&world, world.instance.listen().await).attester().unwrap();
    machine.measure("/usr/bin/web", &[1; 32]);
    assert!(attester.enrol_and_attest(None).await.unwrap().accepted);
    // The machine was started anew, and what is below /run is gone.
    std::fs::remove_file(machine.path("state.json")).unwrap();
    let outcome = attester.enrol_and_attest(None).await.unwrap();
    assert!(outcome.accepted && entries(&outcome) == (Some(0), Some(2)));
    let all = json!({ "delete_type": "all" });
    world.admin.delete(&world.instance, "/node", &all).await.ok();
    assert_eq!(code(attester.attest(None).await), "node_unknown");
    assert!(attester.enrol_and_attest(None).await.unwrap().accepted);
    let nodes = world.admin.get(&world.instance, "/node").await.ok();
    assert_eq!(nodes["nodes"][0]["provenance"]["kind"], "activated");
}

/// Nobody asks for a certificate of its endorsement key, which it need not have.
#[tokio::test]
async fn a_machine_whose_key_an_administrator_has_pinned_is_attested_as_it_is() {
    let machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let options = machine.options(&world, world.instance.listen().await);
    let ak_public = options.machine().unwrap().identity().unwrap().ak_public;
    let pinned = json!({ "node_id": NODE, "ak_public": ak_public });
    let options = Options { endorsement_certificate: Some("/nonexistent".into()), ..options };
    let attester = options.attester().unwrap();
    assert!(matches!(attester.enrol_and_attest(None).await, Err(Error::File { .. })));
    world.admin.post(&world.instance, "/node", &pinned).await.ok();
    let outcome = attester.enrol_and_attest(None).await.unwrap();
    assert!(outcome.accepted, "{:?}", outcome.reasons);
    let nodes = world.admin.get(&world.instance, "/node").await.ok();
    assert_eq!(nodes["nodes"][0]["provenance"]["kind"], "pinned");
}

#[tokio::test]
async fn another_tpm_is_not_taken_for_the_machine() {
    let (machine, thief) = (Machine::start(), Machine::start());
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let port = world.instance.listen().await;
    machine.options(&world, port).attester().unwrap().enrol().await.unwrap();
    let other = thief.options(&world, port).attester().unwrap();
    assert_eq!(code(other.enrol_and_attest(None).await), "quote_signature_invalid");
    let unknown = Options { node_id: Some("unknown".to_owned()), ..thief.options(&world, port) };
    assert_eq!(code(unknown.attester().unwrap().enrol_and_attest(None).await), "certificate_untrusted");
    trust(&world, "thief", &thief.tpm).await;
    assert_eq!(code(other.enrol().await), "node_exists");
    assert_eq!(code(other.enrol_and_attest(None).await), "quote_signature_invalid");
    // The manufacturer of the thief is believed: under a name of its own it is somebody.
    let own = Options { node_id: Some("thief".to_owned()), ..thief.options(&world, port) };
    own.attester().unwrap().enrol().await.unwrap();
}

#[tokio::test]
async fn a_relying_party_hands_in_evidence_once_and_sees_what_it_is_bound_to() {
    let machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let attester = machine.options(&world, world.instance.listen().await).attester().unwrap();
    attester.enrol().await.unwrap();
    let nonce = world.agent.nonce(&world.instance, Some(NODE)).await;
    let data = json!({ "z": [1, 2.5, "\u{e9}\""], "a": { "key": null } });
    let challenge = Challenge {
        nonce_type: NonceType::Verifier,
        nonce: STANDARD.decode(&nonce).unwrap(),
        attester_data: Some(data.clone()),
    };
    let request = attester.machine.answer(&challenge, None).unwrap().request;
    let mut request = serde_json::to_value(request).unwrap();
    assert_eq!(request["measurements"][0]["nonce"], nonce);
    let answer = world.agent.post(&world.instance, "/attest", &request).await;
    let (status, token) = world.result(answer).await;
    assert_eq!((status.as_str(), &token["attester_data"]), ("pass", &data), "{token}");
    let again = world.agent.post(&world.instance, "/attest", &request).await;
    assert_eq!(again.problem(), (400, "nonce_used"));
    // The same evidence with another nonce, and with other data.
    request["measurements"][0]["nonce"] = json!(world.agent.nonce(&world.instance, Some(NODE)).await);
    let other = world.agent.post(&world.instance, "/attest", &request).await;
    assert_eq!(other.problem(), (400, "nonce_mismatch"));
    let with_data = attester.attest(Some(&data)).await.unwrap();
    assert!(with_data.accepted, "{:?}", with_data.reasons);
}

#[tokio::test]
async fn a_machine_is_attested_again_and_again_and_outlives_the_silence_of_its_authority() {
    let machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let port = world.instance.listen().await;
    // Nobody listens there yet.
    let silent = Options { service: Some("http://127.0.0.1:9".to_owned()), ..machine.options(&world, port) };
    let short = Schedule { interval: Duration::from_millis(20), spread: Duration::ZERO };
    for (options, accepted) in [(silent, false), (machine.options(&world, port), true)] {
        let attester = options.attester().unwrap();
        let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let mut report = move |result: &Result<Outcome, Error>| {
            sender.send(result.as_ref().is_ok_and(|outcome| outcome.accepted)).unwrap();
        };
        let running = schedule::run(&attester, short, &System, &mut report);
        let three = async {
            for _ in 0..3 {
                assert_eq!(reports.recv().await, Some(accepted));
            }
        };
        tokio::select! {
            () = running => unreachable!(),
            () = three => {}
        }
    }
}

#[tokio::test]
async fn a_token_of_before_is_kept_until_the_authority_refuses_with_a_token_or_without() {
    let (machine, other) = (Machine::start(), Machine::start());
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let port = world.instance.listen().await;
    let options = machine.options(&world, port);
    options.attester().unwrap().enrol_and_attest(None).await.unwrap();
    // Whom nobody has asked has not refused.
    let silent = Options { service: Some("http://127.0.0.1:9".to_owned()), ..options.clone() };
    assert!(matches!(silent.attester().unwrap().enrol_and_attest(None).await, Err(Error::Connect { .. })));
    assert!(machine.path("token").exists());
    // The TPM was exchanged: there is no token that says so.
    let exchanged = Options { token_file: options.token_file.clone(), ..other.options(&world, port) };
    let refused = exchanged.attester().unwrap().enrol_and_attest(None).await;
    assert_eq!(code(refused), "quote_signature_invalid");
    assert!(!machine.path("token").exists());
}

#[tokio::test]
async fn a_machine_that_is_attested_again_and_again_says_when_it_comes_again() {
    let machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let options = machine.options(&world, world.instance.listen().await);
    let status = async || {
        let answer = world.admin.get(&world.instance, "/status").await.ok();
        answer["nodes"][0].clone()
    };
    // Once is not again.
    options.attester().unwrap().enrol_and_attest(None).await.unwrap();
    assert_eq!((&status().await["reports"], &status().await["deadline"]), (&json!(1), &Value::Null));
    let (attester, times) = Options { spread: Some(0), ..options.clone() }.repeated().unwrap();
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let mut report = move |result: &Result<Outcome, Error>| sender.send(result.is_ok()).unwrap();
    tokio::select! {
        () = schedule::run(&attester, times, &System, &mut report) => unreachable!(),
        attested = reports.recv() => assert_eq!(attested, Some(true)),
    }
    let now = status().await;
    // 3600 s and a tenth of that, one time-out, the longest wait after failures, and what the server grants.
    let after = now["deadline"].as_i64().unwrap() - now["reported_at"].as_i64().unwrap();
    assert_eq!(after, 3960 + 30 + 300 + 30);
    options.attester().unwrap().attest(None).await.unwrap();
    assert!(status().await["deadline"].is_i64());
}

/// Without an API key: by what is renewed meanwhile, a token for each request and a certificate for each connection.
#[tokio::test]
async fn a_machine_comes_with_a_token_or_a_certificate_as_they_are_now() {
    let mut machine = Machine::start();
    let key = SigningKey::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let issuers = Issuers::new(vec![issuer.config()]).unwrap();
    let world = world_with(Settings { issuers, ..strict() }, &machine, &[("/usr/bin/web", 1)]).await;
    machine.measure("/usr/bin/web", &[1; 32]);
    for identity in [format!("sub:{}#{NODE}", issuer.url), format!("dn:CN={NODE},C=CN")] {
        let identity = identity.parse().unwrap();
        world.instance.service.add_identity(TENANT, Role::Agent, &identity, "test").await.unwrap();
    }
    let write = |name: &str, text: String| {
        machine.tpm.write(name, text.as_bytes()).unwrap();
        Some(machine.path(name))
    };
    let now = world.instance.service.now();
    let options = machine.options(&world, world.instance.listen().await);
    let token = write("login", key.sign(&issuer.claims(NODE, now - 300)));
    let with_token = Options { api_key_file: None, service_token_file: token, ..options.clone() };
    let attester = with_token.attester().unwrap();
    assert_eq!(code(attester.enrol().await), "token_invalid");
    write("login", format!("{}\n", key.sign(&issuer.claims(NODE, now))));
    attester.enrol().await.unwrap();
    assert!(attest(&attester).await.accepted);
    write("login", "two words".to_owned());
    assert!(attester.enrol().await.unwrap_err().to_string().contains("--service-token-file"));

    let clients = Authority::root(Authority::ca_params("Clients", 0), &PKCS_ECDSA_P256_SHA256);
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: write("server.pem", certified.cert.pem()).unwrap(),
        key: write("server.key", certified.signing_key.serialize_pem()).unwrap(),
        client_ca: Some(ClientAuthorities {
            flag: "--client-ca",
            certificates: write("clients.pem", clients.pem()).unwrap(),
            revocations: None,
        }),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let router = gta_server::api::router(Arc::clone(&world.instance.service), None, |_, _| {});
    let (_running, stopped) = watch::channel(false);
    tokio::spawn(serve::public(listener, Arc::new(Tls::load(files).unwrap()), router, stopped));
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = clients.issue(&Authority::params(name), &key);
        (write("me.pem", certificate.pem()), write("me.key", key.serialize_pem()))
    };
    let (client_cert, client_key) = issue("web-8");
    let with_certificate = Options {
        service: Some(service),
        service_cert: Some(machine.path("server.pem")),
        api_key_file: None,
        client_cert,
        client_key,
        ..options
    };
    let attester = with_certificate.attester().unwrap();
    assert_eq!(code(attester.attest(None).await), "identity_unknown");
    issue(NODE);
    assert!(attest(&attester).await.accepted);
}

#[tokio::test]
async fn a_key_that_is_not_the_tenants_is_refused_and_never_shown() {
    let machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let options = machine.options(&world, world.instance.listen().await);
    machine.tpm.write("key", "x".repeat(32).as_bytes()).unwrap();
    let error = options.attester().unwrap().enrol().await.unwrap_err();
    assert_eq!(error.reason().unwrap().status, 401);
    assert!(!format!("{error:?} {error}").contains("xxxx"));
}

/// The monitor of a virtCCA guest.
struct MintedMonitor(VirtccaMint);

impl EvidenceSource for MintedMonitor {
    fn collect(&self, request: &Request) -> Result<Evidence, CollectError> {
        let mut mint = self.0.clone();
        mint.cvm.challenge = request.challenge;
        let token = mint.token();
        let device_certificate = mint.device_certificate;
        Ok(Evidence::Virtcca(VirtccaEvidence { token, device_certificate, logs: mint.logs }))
    }
}

#[tokio::test]
async fn a_virtcca_guest_is_attested_by_itself_and_with_its_tpm_by_one_nonce() {
    let machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let mint = VirtccaMint::new([0; 64]);
    for (name, authority) in [("root", &mint.root), ("sub", &mint.sub)] {
        let certificate = json!({ "name": name, "type": ["virt_cca"], "content": authority.pem() });
        world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    }
    let signer = Signer::new();
    let certificate = json!({ "name": "realms", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let realms = json!({ "realms": [{ "name": "guest", "rim": mint.cvm.rim.to_string() }] });
    let values = json!({ "name": "realms", "attester_type": "virt_cca", "content": signer.sign(&realms) });
    world.admin.post(&world.instance, "/ref_value", &values).await.ok();

    let port = world.instance.listen().await;
    let guest = |kinds: &[AttesterType], name: &str, mint: &VirtccaMint| {
        let options = Options {
            attesters: Some(kinds.to_vec()),
            node_id: Some(name.to_owned()),
            ..machine.options(&world, port)
        };
        let mut attester = options.attester().unwrap();
        attester.machine.monitor.source = Arc::new(MintedMonitor(mint.clone()));
        attester
    };
    let alone = guest(&[AttesterType::VirtCca], "cvm", &mint);
    let outcome = alone.enrol_and_attest(None).await.unwrap();
    assert!(outcome.accepted, "{:?}", outcome.reasons);
    let mut other = mint.clone();
    other.cvm.rim = Digest::from_slice(&[0x77; 32]).unwrap();
    let outcome = attest(&guest(&[AttesterType::VirtCca], "cvm", &other)).await;
    assert_eq!((refused(&outcome).0, refused(&outcome).1), ("virt_cca", "rim_mismatch"));

    let both = guest(&[AttesterType::VirtCca, AttesterType::TpmBoot, AttesterType::TpmIma], "both", &mint);
    let outcome = both.enrol_and_attest(None).await.unwrap();
    assert!(outcome.accepted && entries(&outcome) == (Some(0), Some(1)), "{:?}", outcome.reasons);
    // The name is that of a TPM now.
    let without = guest(&[AttesterType::VirtCca], "both", &mint);
    assert!(without.attest(None).await.is_err());
}

/// Asks an agent over its socket; gives status and body.
async fn ask(socket: &Path, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: agent\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn programs_on_the_machine_have_fresh_tokens_and_evidence_for_others() {
    const TOKENS: &str = "/global-trust-authority/agent/v1/tokens";
    const EVIDENCES: &str = "/global-trust-authority/agent/v1/evidences";
    let machine = Machine::start();
    let world = world(&machine, &[("/usr/bin/web", 1)]).await;
    let (attester, _) = machine.options(&world, world.instance.listen().await).repeated().unwrap();
    let socket = machine.path("agent.sock");
    let listener = Listener::bind(&ListenAddress::Unix(socket.clone()), 0o600).await.unwrap();
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(rest::serve(Arc::new(Responder(attester.clone())), vec![listener], async {
        stopping.await.unwrap();
    }));
    // Passport. Two at once take turns.
    let wanted = |data: &str| json!({ "attester_data": { "for": data }, "challenge": false });
    let (alice, bob) = (wanted("alice"), wanted("bob"));
    let (first, second) = tokio::join!(ask(&socket, TOKENS, &alice), ask(&socket, TOKENS, &bob));
    for ((status, answer), data) in [(first, "alice"), (second, "bob")] {
        assert_eq!((status, &answer["attestation_status"]), (200, &json!("pass")), "{answer}");
        let verified = json!({ "token": answer["token"] });
        let verified = world.agent.post(&world.instance, "/token/verify", &verified).await.ok();
        assert_eq!(verified["token_body"]["attester_data"]["for"], data);
    }
    // Who asks for itself does not keep the agent from saying when it comes again.
    let nodes = world.admin.get(&world.instance, "/status").await.ok();
    assert!(nodes["nodes"][0]["deadline"].is_i64(), "{nodes}");
    // A token about less forgets nothing, and what a program gets is not everybody's.
    let boot = json!({ "attester_info": [{ "attester_type": "tpm_boot" }] });
    assert_eq!(ask(&socket, TOKENS, &boot).await.0, 200);
    assert!(!machine.path("token").exists());
    assert_eq!(entries(&attester.attest(None).await.unwrap()), (Some(1), Some(1)));
    assert!(machine.path("token").exists());
    // Background check: what the agent gives is handed in as it is.
    let nonce = world.agent.nonce(&world.instance, Some(NODE)).await;
    let wanted = json!({ "attesters": [{ "attester_type": "tpm_ima" }], "nonce": nonce, "token_fmt": "ear" });
    let (status, evidence) = ask(&socket, EVIDENCES, &wanted).await;
    assert_eq!(status, 200, "{evidence}");
    let (status, token) = world.result(world.agent.post(&world.instance, "/attest", &evidence).await).await;
    assert_eq!((status.as_str(), &token["submods"]["tpm_ima"]["ear_status"]), ("pass", &json!("affirming")));
    assert_eq!(token["submods"]["tpm_boot"], Value::Null);
    // What is no question, and what is none of the machine.
    for (path, body, expected) in [
        (EVIDENCES, json!({}), (400, "request_malformed")),
        (EVIDENCES, json!({ "nonce": "" }), (400, "request_malformed")),
        (TOKENS, json!({ "attester_info": [{ "attester_type": "virt_cca" }] }), (400, "request_malformed")),
        (TOKENS, json!({ "attester_info": [{ "policy_ids": ["nobody"] }] }), (400, "policy_unknown")),
        ("/tokens", json!({}), (404, "not_found")),
    ] {
        let (status, answer) = ask(&socket, path, &body).await;
        assert_eq!((status, answer["code"].as_str().unwrap()), expected, "{answer}");
    }
    stop.send(()).unwrap();
    serving.await.unwrap();
    assert!(!socket.exists());
}
