//! What is attested, and what is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, IsCa, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, date_time_ymd,
};
use serde_json::{Value, json};
use verifier::testing::Authority;

use crate::support::{BOOT, Machine, Signer, World, qualifying};

const IMA: [u32; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

#[tokio::test]
async fn a_node_that_booted_as_it_says_passes() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    let (status, token) = world.result(world.attest(measurement).await).await;
    assert_eq!(status, "pass");
    assert_eq!(token["tpm_boot"]["attestation_status"], "pass");
    assert_eq!(token["tpm_boot"]["policy_info"][0]["custom_data"]["secure_boot"], true);
    assert_eq!(token["node_id"], "node-1");
    assert_eq!(token["matched_policy"], json!(["default"]));
    // RFC 9711: a type and 32 bytes.
    assert_eq!(token["ueid"].as_str().unwrap().len(), 44);
    let lifetime = token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap();
    assert_eq!(lifetime, 600);
}

#[tokio::test]
async fn an_attestation_result_has_the_drafts_names() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let mut measurement = machine.good(&world, "tpm_boot").await;
    measurement["token_fmt"] = json!("EAR");
    let (_, token) = world.result(world.attest(measurement).await).await;
    assert_eq!(token["eat_profile"], "tag:ietf.org,2026:rats/ear#03");
    assert_eq!(token["submods"]["tpm_boot"]["ear_status"], "affirming");
    assert_eq!(token["submods"]["tpm_boot"]["ear_trustworthiness_vector"]["executables"], 3);
}

async fn registered_files(world: &World, files: &[(&str, u8)]) {
    let signer = Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let files: Vec<Value> = files
        .iter()
        .map(|(path, digest)| json!({ "fileName": path, "sha256": hex::encode([*digest; 32]) }))
        .collect();
    let content = signer.sign(&json!({ "referenceValues": files }));
    let values = json!({ "name": "files", "attester_type": "tpm_ima", "content": content });
    world.admin.post(&world.instance, "/ref_value", &values).await.ok();
}

#[tokio::test]
async fn a_node_that_runs_known_files_passes_and_one_that_does_not_is_told_which() {
    let world = World::new().await;
    registered_files(&world, &[("/usr/bin/my tool", 1)]).await;
    let mut machine = world.machine("node-1").await;
    machine.measure("/usr/bin/my tool", &[1; 32]);
    let measurement = machine.good(&world, "tpm_ima").await;
    let answer = world.attest(measurement).await;
    assert_eq!(answer.body["tokens"][0]["ima_next_entry"], 2);
    let (status, token) = world.result(answer).await;
    assert_eq!(status, "pass", "{token}");
    assert_eq!(token["tpm_ima"]["evidence"]["logs"][0]["boot_aggregate_verified"], true);
    machine.measure("/usr/bin/evil", &[1; 32]);
    let measurement = machine.good(&world, "tpm_ima").await;
    let (status, token) = world.result(world.attest(measurement).await).await;
    assert_eq!(status, "fail");
    let reason = &token["tpm_ima"]["evidence"]["logs"][0]["reason"];
    assert_eq!(reason["code"], "ima_entry_unknown");
    assert!(reason["detail"].as_str().unwrap().contains("/usr/bin/evil"));
}

#[tokio::test]
async fn only_new_entries_need_to_be_sent_until_the_machine_starts_anew() {
    let world = World::new().await;
    registered_files(&world, &[("/a", 1), ("/b", 2)]).await;
    let mut machine = world.machine("node-1").await;
    let first = machine.good(&world, "tpm_ima").await;
    world.attest(first).await.ok();
    machine.files = evidence::ima::LogWriter::default();
    machine.measure("/a", &[1; 32]);
    let part = async |machine: &Machine, first: u64| {
        let mut measurement = machine.good(&world, "tpm_ima").await;
        measurement["evidences"][0]["evidence"]["logs"][0]["first_entry"] = json!(first);
        world.attest(measurement).await
    };
    let answer = part(&machine, 1).await;
    assert_eq!(answer.body["tokens"][0]["ima_next_entry"], 2);
    assert_eq!(world.result(answer).await.0, "pass");
    // The same part again, and one with a gap before it.
    for first in [1, 3] {
        let (status, token) = world.result(part(&machine, first).await).await;
        assert_eq!(status, "fail");
        assert_eq!(token["tpm_ima"]["evidence"]["logs"][0]["log_status"], "replay_failure");
    }
    // The same again after a start, so that the register has the same value.
    machine.tpm.reset();
    machine.start();
    machine.measure("/a", &[1; 32]);
    machine.files = evidence::ima::LogWriter::default();
    assert_eq!(world.result(part(&machine, 2).await).await.0, "fail");
}

#[tokio::test]
async fn an_unknown_file_is_not_forgotten_with_the_next_part() {
    let world = World::new().await;
    registered_files(&world, &[("/a", 1)]).await;
    let mut machine = world.machine("node-1").await;
    machine.measure("/evil", &[9; 32]);
    let first = machine.good(&world, "tpm_ima").await;
    assert_eq!(world.result(world.attest(first).await).await.0, "fail");
    machine.files = evidence::ima::LogWriter::default();
    machine.measure("/a", &[1; 32]);
    let mut rest = machine.good(&world, "tpm_ima").await;
    rest["evidences"][0]["evidence"]["logs"][0]["first_entry"] = json!(2);
    assert_eq!(world.result(world.attest(rest).await).await.0, "fail");
}

#[tokio::test]
async fn files_pass_only_if_some_are_registered() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_ima").await;
    let (status, token) = world.result(world.attest(measurement).await).await;
    assert_eq!(status, "fail");
    assert_eq!(token["tpm_ima"]["evidence"]["logs"][0]["ref_value_match_status"], "ignore");
}

#[tokio::test]
async fn a_log_that_was_not_measured_fails_whatever_the_policy_says() {
    let world = World::new().await;
    let rego = STANDARD.encode("package verification\nresult := {\"policy_matched\": true}");
    let policy = json!({ "name": "easy", "attester_type": ["tpm_boot", "tpm_ima"], "content_type": "text",
        "content": rego, "is_default": true });
    world.admin.post(&world.instance, "/policy", &policy).await.ok();
    let machine = world.machine("node-1").await;
    for (kind, log_data) in [("tpm_boot", ""), ("tpm_ima", ""), ("tpm_ima", "AAAA")] {
        let mut measurement = machine.good(&world, kind).await;
        measurement["evidences"][0]["evidence"]["logs"][0]["log_data"] = json!(log_data);
        let (status, token) = world.result(world.attest(measurement).await).await;
        assert_eq!(status, "fail");
        assert_eq!(token[kind]["evidence"]["logs"][0]["log_status"], "replay_failure");
    }
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.result(world.attest(measurement).await).await.0, "pass");
}

#[tokio::test]
async fn without_a_log_or_the_registers_of_the_boot_the_default_policy_fails() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let mut measurement = machine.good(&world, "tpm_boot").await;
    measurement["evidences"][0]["evidence"]["logs"] = json!([]);
    assert_eq!(world.result(world.attest(measurement).await).await.0, "fail");
    let nonce = world.agent.nonce(&world.instance, None).await;
    let evidence = machine.evidence("tpm_boot", &BOOT[1..], &qualifying(&nonce, None));
    let measurement = machine.measurement(&nonce, &[evidence]);
    assert_eq!(world.result(world.attest(measurement).await).await.0, "fail");
}

#[tokio::test]
async fn evidence_of_another_machine_is_refused() {
    let world = World::new().await;
    let (machine, other) = (world.machine("node-1").await, world.machine("node-2").await);
    let mut measurement = machine.good(&world, "tpm_boot").await;
    measurement["node_id"] = json!("node-2");
    let nonce = world.agent.nonce(&world.instance, None).await;
    let mut measurement = machine.for_nonce(&nonce, "tpm_boot");
    measurement["node_id"] = json!(other.name);
    assert_eq!(world.attest(measurement).await.problem(), (400, "quote_signature_invalid"));
}

/// W2, over the wire.
#[tokio::test]
async fn registers_under_wrong_labels_are_refused() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &str); 7] = [
        ("pcr 9 as pcr 10", |pcrs| pcrs["pcr_values"][9]["pcr_index"] = json!(10), "pcr_selection_mismatch"),
        ("twice", |pcrs| pcrs["pcr_values"][9]["pcr_index"] = json!(8), "evidence_malformed"),
        ("out of range", |pcrs| pcrs["pcr_values"][9]["pcr_index"] = json!(32), "evidence_malformed"),
        ("missing", |pcrs| drop(pcrs["pcr_values"].as_array_mut().unwrap().pop()), "pcr_selection_mismatch"),
        ("another bank", |pcrs| pcrs["hash_alg"] = json!("sm3"), "pcr_selection_mismatch"),
        ("unknown bank", |pcrs| pcrs["hash_alg"] = json!("md5"), "evidence_malformed"),
        (
            "another value",
            |pcrs| pcrs["pcr_values"][0]["pcr_value"] = json!("11".repeat(32)),
            "pcr_digest_mismatch",
        ),
    ];
    for (what, change, code) in changes {
        let mut measurement = machine.good(&world, "tpm_boot").await;
        change(&mut measurement["evidences"][0]["evidence"]["pcrs"]);
        assert_eq!(world.attest(measurement).await.problem(), (400, code), "{what}");
    }
}

#[tokio::test]
async fn a_tpm_that_goes_back_in_time_is_refused() {
    let world = World::new().await;
    let mut machine = world.machine("node-1").await;
    let early = machine.tpm.clock;
    machine.tpm.clock.reset_count += 1;
    let measurement = machine.good(&world, "tpm_boot").await;
    world.attest(measurement).await.ok();
    machine.tpm.clock = early;
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.attest(measurement).await.problem(), (400, "clock_rollback"));
}

/// W18: the second would take the place of the first in the result.
#[tokio::test]
async fn evidence_of_one_type_twice_is_refused() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let mut measurement = machine.good(&world, "tpm_boot").await;
    let again = measurement["evidences"][0].clone();
    measurement["evidences"].as_array_mut().unwrap().push(again);
    assert_eq!(world.attest(measurement).await.problem(), (400, "attester_type_repeated"));
    for (evidences, code) in [
        (json!([]), "evidence_missing"),
        (
            json!([{ "attester_type": "sgx", "evidence": machine.evidence("tpm_boot", &[0], &[])["evidence"] }]),
            "attester_type_unknown",
        ),
        (
            json!([{ "attester_type": "tpm_ima", "evidence": machine.evidence("tpm_boot", &[0], &[])["evidence"] }]),
            "log_type_wrong",
        ),
    ] {
        let mut measurement = machine.good(&world, "tpm_boot").await;
        measurement["evidences"] = evidences;
        assert_eq!(world.attest(measurement).await.problem(), (400, code));
    }
}

#[tokio::test]
async fn both_types_at_once_are_in_one_token() {
    let world = World::new().await;
    registered_files(&world, &[("/a", 1)]).await;
    let machine = world.machine("node-1").await;
    let nonce = world.agent.nonce(&world.instance, None).await;
    let bound = qualifying(&nonce, None);
    let evidences = [machine.evidence("tpm_boot", &BOOT, &bound), machine.evidence("tpm_ima", &IMA, &bound)];
    let (status, token) = world.result(world.attest(machine.measurement(&nonce, &evidences)).await).await;
    assert_eq!(status, "pass");
    assert_eq!(token["tpm_boot"]["attestation_status"], token["tpm_ima"]["attestation_status"]);
}

fn with_certificate(mut measurement: Value, kind: &str, certificate: &str) -> Value {
    measurement["evidences"][0]["evidence"]["ak_certs"] =
        json!([{ "cert_type": kind, "cert_data": certificate }]);
    measurement
}

fn ak_params() -> CertificateParams {
    let mut params = Authority::params("AK");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

/// A machine that is not enrolled, and an authority that certifies attestation keys.
async fn certified(world: &World) -> (Machine, Authority) {
    // GTA takes P-256 only (W19).
    let authority = Authority::root(Authority::ca_params("AK CA", 1), &PKCS_ECDSA_P521_SHA512);
    let certificate = json!({ "name": "ak", "type": ["tpm_boot"], "content": authority.pem() });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    (Machine::new("guest", &world.maker), authority)
}

#[tokio::test]
async fn a_key_that_the_tenants_authority_certified_is_believed_without_enrolment() {
    let world = World::new().await;
    let (machine, authority) = certified(&world).await;
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.attest(measurement.clone()).await.problem(), (400, "node_unknown"));
    let certificate = authority.issue(&ak_params(), &machine.tpm.attestation_key_pair());
    let der: String = STANDARD.encode(certificate.der());
    for text in [certificate.pem(), der] {
        let measurement = with_certificate(machine.good(&world, "tpm_boot").await, "aik", &text);
        assert_eq!(world.result(world.attest(measurement).await).await.0, "pass");
    }
    // For another type, another authority must have certified it.
    let measurement = with_certificate(machine.good(&world, "tpm_ima").await, "aik", &certificate.pem());
    assert_eq!(world.attest(measurement).await.problem(), (400, "certificate_untrusted"));
}

/// W1.
#[tokio::test]
async fn attestation_keys_that_nobody_vouches_for_are_refused() {
    let world = World::new().await;
    let (machine, authority) = certified(&world).await;
    let key = machine.tpm.attestation_key_pair();
    let stranger = Authority::root(Authority::ca_params("AK CA", 1), &PKCS_ECDSA_P384_SHA384);
    let mut expired = ak_params();
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut early = ak_params();
    early.not_before = date_time_ymd(2059, 1, 1);
    let mut no_ca = Authority::ca_params("Sub", 0);
    no_ca.is_ca = IsCa::ExplicitNoCa;
    let false_ca = authority.sub(no_ca, &PKCS_ECDSA_P384_SHA384);
    let by_false_ca = [false_ca.issue(&ak_params(), &key).pem(), false_ca.pem()].concat();
    for (what, certificate, codes) in [
        ("self-signed", ak_params().self_signed(&key).unwrap().pem(), &["certificate_untrusted"][..]),
        ("of a stranger", stranger.issue(&ak_params(), &key).pem(), &["certificate_untrusted"]),
        ("expired", authority.issue(&expired, &key).pem(), &["certificate_expired"]),
        ("not yet valid", authority.issue(&early, &key).pem(), &["certificate_expired"]),
        ("by no CA", by_false_ca, &["certificate_constraint", "certificate_untrusted"]),
    ] {
        let measurement = with_certificate(machine.good(&world, "tpm_boot").await, "aik", &certificate);
        let answer = world.attest(measurement).await;
        assert!(codes.contains(&answer.problem().1), "{what}: {answer:?}");
        assert!(answer.message().starts_with("Certificate chain validation failed"));
    }
}

#[tokio::test]
async fn a_revoked_attestation_key_is_refused() {
    let world = World::new().await;
    let (machine, authority) = certified(&world).await;
    let mut params = ak_params();
    params.serial_number = Some(77_u64.into());
    let certificate = authority.issue(&params, &machine.tpm.attestation_key_pair()).pem();
    let send = async || {
        let measurement = with_certificate(machine.good(&world, "tpm_boot").await, "aik", &certificate);
        world.attest(measurement).await
    };
    send().await.ok();
    let list = json!({ "name": "crl", "type": ["crl"], "crl_content": authority.revocation_list(&[77], 2025..2059) });
    world.admin.post(&world.instance, "/cert", &list).await.ok();
    assert_eq!(send().await.problem(), (400, "certificate_revoked"));
}

/// W6: that an IAK's certificate lies beside a LAK's proves nothing.
#[tokio::test]
async fn a_lak_without_a_certification_is_refused() {
    let world = World::new().await;
    let (machine, authority) = certified(&world).await;
    let certificate = authority.issue(&ak_params(), &machine.tpm.attestation_key_pair()).pem();
    for kind in ["lak", "iak"] {
        let measurement = with_certificate(machine.good(&world, "tpm_boot").await, kind, &certificate);
        assert_eq!(world.attest(measurement).await.problem(), (400, "ak_certs_unsupported"));
    }
}

#[tokio::test]
async fn an_enrolled_node_has_its_own_key_whatever_is_certified() {
    let world = World::new().await;
    let (guest, authority) = certified(&world).await;
    let node = world.machine("node-1").await;
    let certificate = authority.issue(&ak_params(), &guest.tpm.attestation_key_pair()).pem();
    let mut measurement = with_certificate(
        guest.for_nonce(&world.agent.nonce(&world.instance, None).await, "tpm_boot"),
        "aik",
        &certificate,
    );
    measurement["node_id"] = json!(node.name);
    assert_eq!(world.attest(measurement).await.problem(), (400, "node_key_differs"));
}

#[tokio::test]
async fn what_is_no_quote_is_told_so() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let mut measurement = machine.good(&world, "tpm_boot").await;
    measurement["evidences"][0]["evidence"]["quote"]["quote_data"] = json!("AAAA");
    assert_eq!(world.attest(measurement).await.problem(), (400, "evidence_malformed"));
}

/// A list of files is read as it goes by, if its type comes first.
#[tokio::test]
async fn evidence_means_the_same_before_its_type_and_behind_it() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    for kind in ["tpm_boot", "tpm_ima"] {
        let mut answers = Vec::new();
        for type_first in [true, false] {
            for (member, value, expected) in [
                ("", json!(null), (200, "")),
                ("quote", json!(null), (422, "body_invalid")),
                ("logs", json!(5), (422, "body_invalid")),
                ("logs", json!([{ "log_type": "ImaLog", "log_data": 5 }]), (422, "body_invalid")),
                ("logs", json!([{ "log_type": "Other", "log_data": "" }]), (400, "log_type_wrong")),
            ] {
                let mut measurement = machine.good(&world, kind).await;
                let item = measurement["evidences"][0].take();
                let mut evidence = item["evidence"].clone();
                if !member.is_empty() {
                    evidence[member] = value;
                }
                let text = |again: &str| {
                    let members =
                        [format!(r#""attester_type":"{kind}""#), format!(r#""evidence":{evidence}"#)];
                    let ordered =
                        if type_first { members.join(",") } else { [&*members[1], &members[0]].join(",") };
                    let mut measurement = measurement.clone();
                    measurement["evidences"] = json!(["HERE"]);
                    let item = format!("{{{ordered},\"other\":[1]{again}}}");
                    json!({ "measurements": [measurement] }).to_string().replace("\"HERE\"", &item)
                };
                let post = async |text: String| world.agent.post_text(&world.instance, "/attest", text).await;
                // Nothing is said twice.
                for again in [format!(r#","attester_type":"{kind}""#), format!(r#","evidence":{evidence}"#)] {
                    assert_eq!(post(text(&again)).await.problem().0, 422, "{kind} {member} {again}");
                }
                let answer = post(text("")).await;
                match expected {
                    (200, _) => answers.push(answer.ok()["tokens"][0]["attestation_status"].clone()),
                    refused => assert_eq!(answer.problem(), refused, "{kind} {member} {type_first}"),
                }
            }
        }
        assert!(answers.len() == 2 && answers[0] == answers[1] && answers[0].is_string(), "{answers:?}");
    }
}
