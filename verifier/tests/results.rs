//! What an accepted appraisal says: to policies, in secGear's words, and as an EAR.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeSet;

use evidence::cca::{Lifecycle, LifecycleState};
use evidence::hash::Digest;
use serde_json::{Map, Value, json};
use verifier::result::{Ear, EvaluationReports, Spelling, Tier, VerifierId};
use verifier::testing::{ANCHOR, Mint, Registered, digest};
use verifier::{
    Appraisal, AppraisalPolicy, Code, Context, Exception, RealmReference, Refusal, StoreError, appraise,
};

const CHALLENGE: [u8; 64] = [0x5a; 64];
const ALLOW: &str = "package attestation\noutput := {\"allow\": true}";

/// References with secGear's values by name beside them.
struct Named(Registered, BTreeSet<&'static str>);

impl verifier::ReferenceValues for Named {
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, StoreError> {
        self.0.realm(rim)
    }

    fn registered(&self, values: &Map<String, Value>) -> Result<BTreeSet<String>, StoreError> {
        Ok(values.keys().filter(|name| self.1.contains(name.as_str())).cloned().collect())
    }
}

fn run(mint: &Mint, store: &Named, rego: &str, exceptions: Vec<Exception>) -> Result<Appraisal, Refusal> {
    let policies = [AppraisalPolicy::new("test.rego", rego, exceptions).unwrap()];
    let context = Context { references: store, ..store.0.context(&policies) };
    appraise(&mint.evidence(), &CHALLENGE, &context)
}

fn accepted(prepare: impl FnOnce(&mut Mint, &mut Registered)) -> Appraisal {
    let mut mint = Mint::new(CHALLENGE);
    let mut registered = mint.registered();
    prepare(&mut mint, &mut registered);
    let exception = Exception {
        trust_anchor: ANCHOR.to_owned(),
        development: true,
        lifecycles: vec![LifecycleState::NonRotDebug],
    };
    run(&mint, &Named(registered, BTreeSet::new()), ALLOW, vec![exception]).unwrap()
}

fn ear(appraisal: &Appraisal) -> Ear {
    Ear::new(appraisal, VerifierId { developer: "redoubt".to_owned(), build: "test 1".to_owned() })
}

#[test]
fn policies_see_a_claim_only_if_its_value_is_registered_or_expected() {
    let mint = Mint::new(CHALLENGE);
    let mut registered = mint.registered();
    registered.references[0].rems[2] = Some(mint.realm.rems[2]);
    let store = Named(registered, BTreeSet::from(["cca.platform.implementation_id"]));
    let output = run(
        &mint,
        &store,
        r#"package attestation
        output := {
            "allow": true,
            "rim": input["cca.realm.rim"] != null,
            "rem2": input["cca.realm.rem.2"] != null,
            "registered": input["cca.platform.implementation_id"] == input.claims.platform.implementation_id,
            "unregistered": input["cca.platform.instance_id"] == null,
            "unexpected": input["cca.realm.rem.0"] == null,
            "any": input["cca.realm.rpv"] == null,
        }"#,
        Vec::new(),
    )
    .unwrap();
    assert!(output.policies[0].output.as_object().unwrap().values().all(|value| value == true));
}

#[test]
fn an_empty_output_object_passes_nothing() {
    let mint = Mint::new(CHALLENGE);
    let store = Named(mint.registered(), BTreeSet::new());
    let secgears_first = r#"package attestation
        import rego.v1
        output[name] := input[name] if { some name in ["vcca.cvm.rim"]; name in object.keys(input) }"#;
    let refusal = run(&mint, &store, secgears_first, Vec::new()).unwrap_err();
    assert_eq!(refusal.code, Code::PolicyDenied);
}

#[test]
fn secgears_report_has_its_shape() {
    let appraisal = accepted(|_, _| {});
    let reports = EvaluationReports::new(&appraisal, vec!["test.rego".to_owned()]);
    assert_eq!(
        serde_json::to_value(&reports).unwrap(),
        json!({
            "eval_result": true,
            "policy": ["test.rego"],
            "report": { "test.rego": "{\"allow\":true}", "ima": null, "event": null, "uefi": null },
        })
    );
    assert_eq!(Spelling::Vcca.name("virtcca"), "vcca");
    assert_eq!(Spelling::Virtcca.name("virtcca"), "virtcca");
    assert_eq!(Spelling::Vcca.name("cca"), "cca");
}

#[test]
fn an_ear_of_a_secured_platform_affirms_both_parts() {
    let result = ear(&accepted(|_, _| {}));
    assert_eq!(result.status(), Tier::Affirming);
    assert_eq!(
        serde_json::to_value(&result).unwrap(),
        json!({
            "eat_profile": "tag:ietf.org,2026:rats/ear#04",
            "ear_verifier_id": { "developer": "redoubt", "build": "test 1" },
            "submods": {
                "CCA_REALM": {
                    "ear_status": "affirming",
                    "ear_trustworthiness_vector": { "instance-identity": 2, "executables": 3, "runtime-opaque": 2 },
                    "ear_appraisal_policy_ids": ["test.rego"],
                },
                "CCA_SSD_PLATFORM": {
                    "ear_status": "affirming",
                    "ear_trustworthiness_vector": { "instance-identity": 2, "hardware": 2, "storage-opaque": 2 },
                    "ear_appraisal_policy_ids": ["test.rego"],
                },
            },
        })
    );
}

#[test]
fn an_ear_says_approved_runtime_only_if_every_register_was_expected() {
    let result = ear(&accepted(|mint, store| {
        mint.realm.rems = [digest(0x41); 4];
        store.references[0].rems = mint.realm.rems.map(Some);
    }));
    assert_eq!(result.submods["CCA_REALM"].ear_trustworthiness_vector.executables, Some(2));
}

#[test]
fn an_ear_warns_of_what_passed_by_exception_alone() {
    let development = ear(&accepted(|_, store| store.anchor().development = true));
    assert_eq!(development.status(), Tier::Warning);
    assert_eq!(development.submods["CCA_SSD_PLATFORM"].ear_trustworthiness_vector.hardware, Some(32));
    assert_eq!(development.submods["CCA_REALM"].ear_trustworthiness_vector.runtime_opaque, Some(32));

    let debug = ear(&accepted(|mint, _| mint.platform.lifecycle = Lifecycle(0x4000)));
    assert_eq!(debug.status(), Tier::Warning);
    let vector = debug.submods["CCA_SSD_PLATFORM"].ear_trustworthiness_vector;
    assert_eq!((vector.configuration, vector.storage_opaque), (Some(32), None));
}
