//! virtCCA machines.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evidence::bank::Bank;
use evidence::envelope::{BootLog, Logs};
use evidence::hash::{Digest, HashAlgorithm};
use evidence::ima::{ExtendRule, FileDigest, LogWriter, Template};
use evidence::rmm;
use serde_json::{Value, json};
use verifier::testing::{Authority, VirtccaMint};

use crate::support::{Answer, BOOT, Client, Machine, Signer, World, qualifying};

const RIM: [u8; 32] = [0x11; 32];

/// A tenant that knows the authorities of the machine, and the machine with the initial measurement 0x11.
async fn prepared(mint: &VirtccaMint, reference: Value) -> World {
    let world = World::new().await;
    trust(&world, &world.admin, mint).await;
    register(&world, "virt_cca", reference).await.ok();
    world
}

async fn trust(world: &World, tenant: &Client, mint: &VirtccaMint) {
    for (name, authority) in [("root", &mint.root), ("sub", &mint.sub)] {
        let certificate = json!({ "name": name, "type": ["virt_cca"], "content": authority.pem() });
        tenant.post(&world.instance, "/cert", &certificate).await.ok();
    }
}

fn guest() -> Value {
    json!({ "realms": [{ "name": "guest", "rim": hex::encode(RIM) }] })
}

async fn register(world: &World, kind: &str, payload: Value) -> Answer {
    let signer = Signer::new();
    let name =
        format!("signer {payload}").chars().filter(char::is_ascii_alphanumeric).take(200).collect::<String>();
    let certificate = json!({ "name": name, "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let values = json!({ "name": name, "attester_type": kind, "content": signer.sign(&payload) });
    world.admin.post(&world.instance, "/ref_value", &values).await
}

fn evidence(mint: &VirtccaMint) -> Value {
    let mut logs = Vec::new();
    if let Some(ima) = &mint.logs.ima {
        logs.push(json!({ "log_type": "ImaLog", "log_data": STANDARD.encode(ima) }));
    }
    if let Some(boot) = &mint.logs.boot {
        logs.push(json!({ "log_type": "CCEL", "log_data": STANDARD.encode(&boot.data) }));
    }
    json!({
        "attester_type": "virt_cca",
        "evidence": {
            "vcca_token": STANDARD.encode(mint.token()),
            "dev_cert": STANDARD.encode(&mint.device_certificate),
            "logs": logs,
        },
    })
}

/// What the machine answers to a nonce.
fn answer(mint: &VirtccaMint, nonce: &str) -> Value {
    let mut mint = mint.clone();
    mint.cvm.challenge = [0; 64];
    mint.cvm.challenge[..32].copy_from_slice(&qualifying(nonce, None));
    json!({ "node_id": "cvm", "nonce": nonce, "evidences": [evidence(&mint)] })
}

async fn good(world: &World, mint: &VirtccaMint) -> Value {
    answer(mint, &world.agent.nonce(&world.instance, Some("cvm")).await)
}

async fn attest(world: &World, mint: &VirtccaMint) -> Answer {
    world.attest(good(world, mint).await).await
}

fn reason(token: &Value) -> &str {
    token["virt_cca"]["evidence"]["reason"]["code"].as_str().unwrap()
}

#[tokio::test]
async fn a_machine_that_is_known_passes() {
    let mint = VirtccaMint::new([0; 64]);
    let world = prepared(&mint, guest()).await;
    let (status, token) = world.result(attest(&world, &mint).await).await;
    assert_eq!(status, "pass", "{token}");
    let evidence = &token["virt_cca"]["evidence"];
    assert_eq!(evidence["vcca_rim"], hex::encode(RIM));
    assert_eq!(evidence["vcca_rem3"], hex::encode([0; 32]));
    assert_eq!(evidence["vcca_is_platform"], true);
    assert_eq!(evidence["vcca_platform_token_lifecycle"], 0x3000);
    assert_eq!(evidence["vcca_platform_token_sw_components"][5]["firware_name"], "tee");
    assert_eq!(evidence["vcca_ccel_log_status"], "no_log");
    let instance = mint.platform.as_ref().unwrap().instance_id;
    assert_eq!(token["ueid"], URL_SAFE_NO_PAD.encode(instance));
    let mut measurement = good(&world, &mint).await;
    measurement["token_fmt"] = json!("ear");
    let (_, token) = world.result(world.attest(measurement).await).await;
    let submodule = &token["submods"]["virt_cca"];
    assert_eq!(submodule["ear_status"], "affirming");
    assert_eq!(
        submodule["ear_trustworthiness_vector"],
        json!({ "instance-identity": 2, "hardware": 2, "executables": 3 })
    );
}

#[tokio::test]
async fn a_machine_that_is_not_known_fails_whatever_policies_say() {
    let mut mint = VirtccaMint::new([0; 64]);
    let world = prepared(&mint, guest()).await;
    let rego = "package verification\nresult := {\"policy_matched\": true}";
    let policy = json!({
        "name": "all", "attester_type": ["virt_cca"], "content_type": "text", "content": STANDARD.encode(rego),
        "is_default": true,
    });
    world.admin.post(&world.instance, "/policy", &policy).await.ok();
    mint.cvm.rim = Digest::from_slice(&[0x12; 32]).unwrap();
    let (status, token) = world.result(attest(&world, &mint).await).await;
    assert_eq!((status.as_str(), reason(&token)), ("fail", "rim_mismatch"));
    // What nobody accepted names no platform.
    assert_eq!(token["ueid"], Value::Null);
    mint.cvm.rim = Digest::from_slice(&RIM).unwrap();
    mint.cvm.rems[1] = Digest::from_slice(&[1; 32]).unwrap();
    let (status, token) = world.result(attest(&world, &mint).await).await;
    assert_eq!((status.as_str(), reason(&token)), ("fail", "register_unexplained"));
}

#[tokio::test]
async fn what_a_tenant_knows_another_does_not() {
    let mint = VirtccaMint::new([0; 64]);
    let world = prepared(&mint, guest()).await;
    let attest = async || {
        let nonce = world.other.nonce(&world.instance, Some("cvm")).await;
        let request = json!({ "measurements": [answer(&mint, &nonce)] });
        world.other.post(&world.instance, "/attest", &request).await
    };
    assert_eq!(attest().await.problem(), (400, "certificate_untrusted"));
    // The authorities are the same for both, the machines are not.
    trust(&world, &world.other, &mint).await;
    let (status, token) = world.result(attest().await).await;
    assert_eq!((status.as_str(), reason(&token)), ("fail", "rim_mismatch"));
}

/// W7: without a Platform Token, the key in the token must be the device's own; and only if the tenant says so.
#[tokio::test]
async fn a_token_without_a_platform_token_needs_the_tenants_consent_and_the_devices_key() {
    let mint = VirtccaMint::legacy([0; 64]);
    let world = prepared(&mint, guest()).await;
    assert_eq!(attest(&world, &mint).await.problem(), (400, "platform_token_missing"));
    let rego = "package verification\nresult := {\"policy_matched\": input.evidence.vcca_rim != \"\"}";
    let mut policy = json!({
        "name": "legacy", "attester_type": ["virt_cca"], "content_type": "text", "content": STANDARD.encode(rego),
        "is_default": true, "rules": { "virtcca": { "allow_legacy": true } },
    });
    let added = world.admin.post(&world.instance, "/policy", &policy).await.ok();
    let (status, token) = world.result(attest(&world, &mint).await).await;
    assert_eq!(status, "pass");
    assert_eq!(token["virt_cca"]["evidence"]["vcca_is_platform"], false);
    let mut forged = mint.clone();
    forged.monitor = verifier::testing::DeviceSigner::new_rsa_4096();
    forged.cvm.key = forged.monitor.cvm_key();
    assert_eq!(attest(&world, &forged).await.problem(), (400, "key_binding_mismatch"));
    // One policy that does not consent is enough.
    policy["name"] = json!("strict");
    policy["rules"] = Value::Null;
    world.admin.post(&world.instance, "/policy", &policy).await.ok();
    assert_eq!(attest(&world, &mint).await.problem(), (400, "platform_token_missing"));
    let path = format!("/policy?ids={}", added["policy"]["id"].as_str().unwrap());
    let shown = world.admin.get(&world.instance, &path).await.ok();
    assert_eq!(shown["policies"][0]["rules"]["virtcca"]["allow_legacy"], true);
}

#[tokio::test]
async fn typed_rules_bind_the_platforms_firmware() {
    let mint = VirtccaMint::new([0; 64]);
    let world = prepared(&mint, guest()).await;
    let policy = json!({
        "name": "firmware", "attester_type": ["virt_cca"], "content_type": "text",
        "content": STANDARD.encode(include_str!("../../../policies/gta/virt_cca.rego")), "is_default": true,
        "rules": { "virtcca": { "components": {
            "expected": { "uefi": { "minimum_version": "99.0" } }, "allow_others": true,
        } } },
    });
    world.admin.post(&world.instance, "/policy", &policy).await.ok();
    let (status, token) = world.result(attest(&world, &mint).await).await;
    assert_eq!(status, "fail");
    assert_eq!(token["virt_cca"]["evidence"]["reason"]["step"], "platform_software", "{token}");
}

/// Evidence of the monitor and of the TPM, for policies beside those of the tenant.
async fn with_tpm(world: &World, mint: &VirtccaMint, machine: &Machine, policy_ids: &[&Value]) -> Value {
    let mut both = good(world, mint).await;
    let bound = qualifying(both["nonce"].as_str().unwrap(), None);
    both["evidences"][0]["policy_ids"] = json!(policy_ids);
    both["evidences"].as_array_mut().unwrap().push(machine.evidence("tpm_boot", &BOOT, &bound));
    both
}

/// Typed rules take part in the appraisal itself: they make it fail, or refuse before there is a result.
#[tokio::test]
async fn rules_that_only_a_request_names_do_not_change_how_the_node_is() {
    let components = json!({ "expected": { "uefi": { "minimum_version": "99.0" } }, "allow_others": true });
    let newest = json!({ "virtcca": { "components": components } });
    let legacy = json!({ "virtcca": { "allow_legacy": true } });
    for (mint, default, asked, refusal) in [
        (VirtccaMint::new([0; 64]), Value::Null, newest, None),
        (VirtccaMint::legacy([0; 64]), legacy, Value::Null, Some((400, "platform_token_missing"))),
    ] {
        let world = prepared(&mint, guest()).await;
        let machine = world.machine("cvm").await;
        let policy = async |name: &str, is_default: bool, rules: &Value| {
            let rego = "package verification\nresult := {\"policy_matched\": true}";
            let policy = json!({ "name": name, "attester_type": ["virt_cca"], "content_type": "text",
                "content": STANDARD.encode(rego), "is_default": is_default, "rules": rules });
            let added = world.admin.post(&world.instance, "/policy", &policy).await.ok();
            added["policy"]["id"].clone()
        };
        let status = async || {
            let answer = world.admin.get(&world.instance, "/status?ids=cvm").await.ok();
            answer["nodes"][0]["status"].clone()
        };
        policy("default", true, &default).await;
        world.attest(with_tpm(&world, &mint, &machine, &[]).await).await.ok();
        let id = policy("asked", false, &asked).await;
        let answer = world.attest(with_tpm(&world, &mint, &machine, &[&id]).await).await;
        match refusal {
            Some(refusal) => assert_eq!(answer.problem(), refusal),
            None => assert_eq!(world.result(answer).await.0, "fail"),
        }
        assert_eq!(status().await, "passed");
        // What the tenant demands does.
        policy("demanded", true, &asked).await;
        world.attest(with_tpm(&world, &mint, &machine, &[&id]).await).await;
        assert_eq!(status().await, if refusal.is_some() { "refused" } else { "failed" });
    }
}

#[tokio::test]
async fn evidence_that_may_be_untrue_is_refused() {
    let mint = VirtccaMint::new([0; 64]);
    let world = prepared(&mint, guest()).await;
    let stranger = VirtccaMint::new([0; 64]);
    assert_eq!(attest(&world, &stranger).await.problem(), (400, "certificate_untrusted"));
    // A nonce that was used, and another one's.
    let measurement = good(&world, &mint).await;
    world.attest(measurement.clone()).await.ok();
    assert_eq!(world.attest(measurement.clone()).await.problem(), (400, "nonce_used"));
    let mut other = good(&world, &mint).await;
    other["evidences"] = measurement["evidences"].clone();
    assert_eq!(world.attest(other).await.problem(), (400, "nonce_mismatch"));
    // The second half of the challenge is checked, too.
    let mut measurement = good(&world, &mint).await;
    let mut padded = mint.clone();
    padded.cvm.challenge[..32].copy_from_slice(&qualifying(measurement["nonce"].as_str().unwrap(), None));
    padded.cvm.challenge[63] = 1;
    measurement["evidences"] = json!([evidence(&padded)]);
    assert_eq!(world.attest(measurement).await.problem(), (400, "nonce_mismatch"));
    let mut measurement = good(&world, &mint).await;
    measurement["evidences"][0]["evidence"] = json!({ "vcca_token": "AA==" });
    assert_eq!(world.attest(measurement).await.problem(), (400, "evidence_malformed"));
    let list = mint.sub.revocation_list(&[VirtccaMint::serial()], 2025..2059);
    let sent = json!({ "name": "crl", "type": ["crl"], "crl_content": list });
    world.admin.post(&world.instance, "/cert", &sent).await.ok();
    assert_eq!(attest(&world, &mint).await.problem(), (400, "certificate_revoked"));
}

/// A machine whose IMA has measured files into REM[3].
fn with_files(mint: &VirtccaMint, files: &[(&str, u8)]) -> VirtccaMint {
    let mut mint = mint.clone();
    let mut log = LogWriter::default();
    let mut rem = Digest::zero(HashAlgorithm::Sha256);
    for (path, digest) in files {
        let digest = [*digest; 32];
        let digest = FileDigest { verity: false, algorithm: "sha256", value: &digest };
        let mut one = LogWriter::default();
        for log in [&mut one, &mut log] {
            log.measure(4, Template::ImaNg, digest, path.as_bytes(), &[]);
        }
        let bytes = one.finish();
        let list = evidence::ima::Log::new(&bytes).unwrap();
        let entry = list.entries().next().unwrap().unwrap();
        let extension = entry.extension(Bank::Sha256, ExtendRule::PerBank);
        rem = rmm::extend(HashAlgorithm::Sha256, &rem, extension.as_bytes()).unwrap();
    }
    mint.cvm.rems[3] = rem;
    mint.logs = Logs { ima: Some(log.finish()), boot: None };
    mint
}

/// W13: any number of files in one register.
#[tokio::test]
async fn files_of_a_machine_are_held_against_those_of_its_set() {
    let mint = VirtccaMint::new([0; 64]);
    let file = |path: &str, digest: u8| json!({ "fileName": path, "sha256": hex::encode([digest; 32]) });
    let mut reference = guest();
    reference["referenceValues"] = json!([file("/a", 1), file("/b", 2)]);
    let world = prepared(&mint, reference).await;
    let known = with_files(&mint, &[("/a", 1), ("/b", 2)]);
    let (status, token) = world.result(attest(&world, &known).await).await;
    assert_eq!(status, "pass", "{token}");
    assert_eq!(token["virt_cca"]["evidence"]["vcca_ima_ref_value_match_status"], "matched");
    let unknown = with_files(&mint, &[("/a", 1), ("/evil", 2)]);
    let (status, token) = world.result(attest(&world, &unknown).await).await;
    assert_eq!((status.as_str(), reason(&token)), ("fail", "ima_entry_unknown"));
    assert!(token["virt_cca"]["evidence"]["reason"]["detail"].as_str().unwrap().contains("/evil"));
    let mut silent = known.clone();
    silent.logs = Logs::default();
    let (status, token) = world.result(attest(&world, &silent).await).await;
    assert_eq!((status.as_str(), reason(&token)), ("fail", "register_unexplained"));
    let mut wrong = known;
    wrong.logs.boot = Some(BootLog { table: Vec::new(), data: vec![1; 40] });
    let (status, token) = world.result(attest(&world, &wrong).await).await;
    assert_eq!(status, "fail");
    assert_eq!(token["virt_cca"]["evidence"]["vcca_ccel_log_status"], "replay_failure");
}

/// A vTPM is bound to its machine by one nonce for both.
#[tokio::test]
async fn an_enrolled_node_shows_its_tpm_beside_the_token() {
    let mint = VirtccaMint::new([0; 64]);
    let world = prepared(&mint, guest()).await;
    let machine = world.machine("cvm").await;
    assert_eq!(attest(&world, &mint).await.problem(), (400, "tpm_evidence_missing"));
    let both = with_tpm(&world, &mint, &machine, &[]).await;
    let (status, token) = world.result(world.attest(both).await).await;
    assert_eq!(status, "pass", "{token}");
    assert_eq!(token["virt_cca"]["attestation_status"], token["tpm_boot"]["attestation_status"]);
}

#[tokio::test]
async fn reference_values_are_of_their_type() {
    let world = World::new().await;
    let files = json!([{ "fileName": "/a", "sha256": hex::encode([1; 32]) }]);
    for (kind, payload) in [
        ("virt_cca", json!({ "referenceValues": files })),
        ("virt_cca", json!({ "realms": [{ "name": "guest", "rim": RIM, "rpv": "11" }] })),
        ("virt_cca", json!({ "realms": [{ "name": "guest", "rim": "11" }] })),
        ("virt_cca", json!({ "realms": [{ "name": "guest", "rim": hex::encode(RIM), "color": "red" }] })),
        ("tpm_ima", guest()),
        ("tpm_ima", json!({})),
    ] {
        let answer = register(&world, kind, payload.clone()).await;
        assert!(
            ["ref_value_invalid", "signature_invalid"].contains(&answer.problem().1),
            "{payload}: {answer:?}"
        );
    }
    let short = json!({ "realms": [{ "name": "guest", "rim": hex::encode(RIM), "rpv": "11" }] });
    let refused = register(&world, "virt_cca", short).await;
    assert!(refused.message().contains("expected 64"), "{refused:?}");
    let other = Authority::root(Authority::ca_params("Other", 1), &rcgen::PKCS_ECDSA_P384_SHA384);
    let certificate = json!({ "name": "other", "type": ["virtcca"], "content": other.pem() });
    let refused = world.admin.post(&world.instance, "/cert", &certificate).await;
    assert_eq!(refused.problem(), (400, "cert_type_unknown"));
}
