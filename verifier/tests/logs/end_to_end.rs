//! Logs through the whole pipeline: a token vouches for the registers, the registers for the logs.

use std::sync::Arc;

use evidence::envelope::{BootLog, CcaEvidence, Evidence, Logs};
use serde_json::json;
use verifier::logs::{BootReferences, Explained, LogReferences, LogRules};
use verifier::result::{Ear, EvaluationReports, Tier, VerifierId};
use verifier::testing::{Mint, Registered, VirtccaMint};
use verifier::{Appraisal, AppraisalPolicy, Code, Refusal, Rules, Step, appraise};

use crate::harness::*;

const CHALLENGE: [u8; 64] = [0x5a; 64];

/// Policies see what the logs proved; this one only wants to know whether Secure Boot was off.
const SECURE_BOOT: &str = r#"package attestation
output := {"allow": object.get(input.claims, ["logs", "boot", "secure_boot"], null) != false}"#;

fn logs(guest: &Guest) -> Logs {
    let boot = BootLog { table: Vec::new(), data: guest.log().encode_area(0x4000) };
    Logs { ima: guest.ima.clone(), boot: Some(boot) }
}

/// The evidence of one guest from either kind of TEE, and what the operator registered.
fn evidence(guest: &Guest) -> [(Evidence, Registered); 2] {
    let mut cca = Mint::new(CHALLENGE);
    cca.realm.rems = guest.rems();
    let mut virtcca = VirtccaMint::new(CHALLENGE);
    virtcca.cvm.rems = guest.rems();
    virtcca.logs = logs(guest);
    [
        (Evidence::Cca(CcaEvidence { token: cca.token(), logs: logs(guest) }), cca.registered()),
        (virtcca.evidence(), virtcca.registered()),
    ]
}

fn run(
    evidence: &Evidence,
    mut store: Registered,
    references: Option<LogReferences>,
    rules: &LogRules,
) -> Result<Appraisal, Refusal> {
    store.references[0].logs = references.map(Arc::new);
    let rules = Rules { logs: rules.clone(), ..Rules::default() };
    let policy = AppraisalPolicy::new("test.rego", SECURE_BOOT, Vec::new()).unwrap().with_rules(rules);
    appraise(evidence, &CHALLENGE, &store.context(&[policy]))
}

#[test]
fn a_guest_is_accepted_with_its_logs_and_policies_and_tokens_see_what_they_proved() {
    for (evidence, store) in evidence(&Guest::with_ima()) {
        let appraisal = run(&evidence, store, Some(references_with_ima()), &strict_ima()).unwrap();
        assert_eq!(serde_json::to_value(&appraisal.claims).unwrap()["logs"]["boot"]["kernel"], "1");
        assert_eq!(serde_json::to_value(&appraisal.claims).unwrap()["logs"]["boot"]["secure_boot"], true);
        assert_eq!(
            serde_json::to_value(&appraisal.claims).unwrap()["logs"]["registers"],
            json!(["boot", "boot", "boot", "ima"])
        );
        let vectors = ear(&appraisal).submods;
        assert!(vectors.values().any(|part| part.ear_trustworthiness_vector.executables == Some(2)));
        let report = EvaluationReports::new(&appraisal, Vec::new()).report;
        assert_eq!(report["ima"], json!({ "/usr/bin/one": true, "/usr/bin/two": true }));
        assert_eq!(report["uefi"]["kernel"], true);
        assert_eq!(report["event"], json!(null));
    }
}

fn ear(appraisal: &Appraisal) -> Ear {
    Ear::new(appraisal, VerifierId { developer: "redoubt".to_owned(), build: "test".to_owned() })
}

#[test]
fn a_result_warns_of_registers_that_policy_lets_pass_unexplained() {
    let rules = LogRules { unexplained_registers: true, ..LogRules::default() };
    let guest = Guest { ima: None, ..Guest::with_ima() };
    for (evidence, store) in evidence(&guest) {
        let appraisal = run(&evidence, store, Some(references()), &rules).unwrap();
        assert_eq!(appraisal.logs.registers[3], Explained::Unexplained);
        assert_eq!(ear(&appraisal).status(), Tier::Warning);
    }
}

#[test]
fn logs_of_another_guest_are_refused() {
    let mut other = Guest::usual();
    other.at("kernel").content = b"kernel 2".to_vec();
    for (evidence, store) in evidence(&Guest::usual()) {
        let evidence = match evidence {
            Evidence::Cca(evidence) => Evidence::Cca(CcaEvidence { logs: logs(&other), ..evidence }),
            Evidence::Virtcca(mut evidence) => {
                evidence.logs = logs(&other);
                Evidence::Virtcca(evidence)
            }
        };
        let refusal = run(&evidence, store, Some(references()), &strict()).unwrap_err();
        assert_eq!((refusal.step, refusal.code), (Step::Logs, Code::LogMismatch));
    }
}

#[test]
fn stripping_the_logs_is_refused_by_the_registers_and_by_policy() {
    for (rules, expected) in [
        (LogRules::default(), Code::RegisterUnexplained),
        (LogRules { unexplained_registers: true, ..strict() }, Code::LogMissing),
    ] {
        for (evidence, store) in evidence(&Guest::usual()) {
            let evidence = match evidence {
                Evidence::Cca(evidence) => Evidence::Cca(CcaEvidence { logs: Logs::default(), ..evidence }),
                Evidence::Virtcca(mut evidence) => {
                    evidence.logs = Logs::default();
                    Evidence::Virtcca(evidence)
                }
            };
            assert_eq!(run(&evidence, store, None, &rules).unwrap_err().code, expected);
        }
    }
}

#[test]
fn of_several_references_with_one_initial_measurement_the_one_that_fits_is_taken() {
    for (evidence, mut store) in evidence(&Guest::usual()) {
        let mut first = store.references[0].clone();
        first.logs = Some(Arc::new(LogReferences {
            boot: Some(BootReferences::default()),
            ..LogReferences::default()
        }));
        first.name = "another release".to_owned();
        store.references.push(first);
        store.references.swap(0, 1);
        let policies = [AppraisalPolicy::new("test.rego", SECURE_BOOT, Vec::new()).unwrap()];
        store.references[1].logs = Some(Arc::new(references()));
        let appraisal = appraise(&evidence, &CHALLENGE, &store.context(&policies)).unwrap();
        assert_eq!(appraisal.reference.name, "guest");
        store.references.pop();
        let refusal = appraise(&evidence, &CHALLENGE, &store.context(&policies)).unwrap_err();
        assert_eq!(refusal.code, Code::BootEventUnknown);
    }
}

#[test]
fn registers_that_the_reference_has_exactly_need_no_log() {
    for (evidence, mut store) in evidence(&Guest::usual()) {
        store.references[0].rems = Guest::usual().rems().map(Some);
        let evidence = match evidence {
            Evidence::Cca(evidence) => Evidence::Cca(CcaEvidence { logs: Logs::default(), ..evidence }),
            Evidence::Virtcca(mut evidence) => {
                evidence.logs = Logs::default();
                Evidence::Virtcca(evidence)
            }
        };
        let appraisal = run(&evidence, store, None, &LogRules::default()).unwrap();
        use Explained::{Reference, Zero};
        assert_eq!(appraisal.logs.registers, [Reference, Reference, Reference, Zero]);
    }
}
