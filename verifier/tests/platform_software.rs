//! T12: rules for the software of a platform, as operators write them.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use evidence::hash::{Digest, HashAlgorithm};
use serde_json::{Value, json};
use verifier::testing::{Registered, VirtccaMint};
use verifier::{Appraisal, AppraisalPolicy, Code, DEFAULT_VIRTCCA_POLICY, Refusal, Rules, Step, appraise};

const CHALLENGE: [u8; 64] = [0x5a; 64];

struct Platform {
    mint: VirtccaMint,
    store: Registered,
}

impl Platform {
    fn new() -> Self {
        let mint = VirtccaMint::new(CHALLENGE);
        let store = mint.registered();
        Self { mint, store }
    }

    /// The rules that describe the platform exactly.
    fn expected() -> Value {
        let rule = |kind: &str, version: &str| json!({ "measurements": [HashAlgorithm::Sha256.digest(kind.as_bytes())], "minimum_version": version });
        json!({
            "ipu": rule("ipu", "21.23"), "imu": rule("imu", "21.23.0"), "imf_ap": rule("imf_ap", "21.9"),
            "tf_bl2": rule("tf_bl2", "21.23.0.0"), "uefi": rule("uefi", "21.23"), "tee": rule("tee", "1.6"),
        })
    }

    fn run(&self, virtcca: &Value) -> Result<Appraisal, Refusal> {
        let rules: Rules = serde_json::from_value(json!({ "virtcca": virtcca })).unwrap();
        let policy = AppraisalPolicy::new("strict", DEFAULT_VIRTCCA_POLICY, Vec::new()).unwrap();
        let policies = [policy.with_rules(rules)];
        appraise(&self.mint.evidence(), &CHALLENGE, &self.store.context(&policies))
    }

    #[track_caller]
    fn refused(&self, virtcca: &Value) -> (Code, String) {
        let refusal = self.run(virtcca).expect_err("the platform was accepted");
        assert_eq!(refusal.step, Step::PlatformSoftware);
        (refusal.code, refusal.detail)
    }

    fn components(&mut self) -> &mut Vec<evidence::virtcca::SoftwareComponent> {
        &mut self.mint.platform.as_mut().unwrap().components
    }
}

fn set(expected: &Value) -> Value {
    json!({ "components": { "expected": expected } })
}

#[test]
fn t12_a_platform_that_is_as_expected_is_verified_component_by_component() {
    let appraisal = Platform::new().run(&set(&Platform::expected())).unwrap();
    let claims = serde_json::to_value(&appraisal.claims).unwrap();
    for component in claims["platform"]["software_components"].as_array().unwrap() {
        assert_eq!(component["result"], "accepted");
    }
    assert_eq!(appraisal.policies[0].output["vcca.platform.verify"], "Verified");
}

/// What is remembered of a platform is not what another policy said of it.
#[test]
fn t12_a_known_platform_is_told_as_this_policy_sees_it() {
    let platform = Platform::new();
    let (strict, lenient) = (set(&Platform::expected()), json!({}));
    for (rules, result, verified) in [
        (&lenient, "unchecked", "Not Verified"),
        (&strict, "accepted", "Verified"),
        (&strict, "accepted", "Verified"),
        (&lenient, "unchecked", "Not Verified"),
    ] {
        let appraisal = platform.run(rules).unwrap();
        let claims = serde_json::to_value(&appraisal.claims).unwrap();
        assert_eq!(claims["platform"]["software_components"][0]["result"], result);
        let status = &appraisal.tcb_status["vcca.platform.software_components"];
        assert_eq!(status, &claims["platform"]["software_components"]);
        assert_eq!(appraisal.policies[0].output["vcca.platform.verify"], verified);
    }
}

#[test]
fn t12_order_means_nothing() {
    let mut platform = Platform::new();
    platform.components().reverse();
    platform.run(&set(&Platform::expected())).unwrap();
}

#[test]
fn t12_what_is_missing_and_what_is_not_expected_is_refused_by_name() {
    let mut platform = Platform::new();
    let uefi = platform.components().remove(4);
    let (code, detail) = platform.refused(&set(&Platform::expected()));
    assert_eq!(code, Code::ComponentNotAllowed);
    assert!(detail.contains("\"uefi\" is missing"), "{detail}");
    let mut optional = Platform::expected();
    optional["uefi"]["optional"] = json!(true);
    platform.run(&set(&optional)).unwrap();

    platform.components().push(uefi);
    let mut subset = Platform::expected();
    subset.as_object_mut().unwrap().remove("uefi");
    let (_, detail) = platform.refused(&set(&subset));
    assert!(detail.contains("\"uefi\" is not expected"), "{detail}");
    let appraisal =
        platform.run(&json!({ "components": { "expected": subset, "allow_others": true } })).unwrap();
    assert_eq!(appraisal.policies[0].output["vcca.platform.verify"], "Not Verified");
}

#[test]
fn t12_measurements_are_exact() {
    let mut platform = Platform::new();
    platform.components()[3].measurement = HashAlgorithm::Sha256.digest(b"evil");
    let (code, detail) = platform.refused(&set(&Platform::expected()));
    assert_eq!(code, Code::ComponentNotAllowed);
    assert!(detail.contains("\"tf_bl2\" has the measurement"), "{detail}");
}

#[test]
fn t12_older_and_incomparable_versions_are_refused() {
    let mut platform = Platform::new();
    for (version, objection) in [
        ("21.22.99", "older than 21.23.0.0"),
        ("9", "older"),
        ("21.23.0-rc1", "not comparable"),
        ("", "not comparable"),
    ] {
        platform.components()[3].version = version.to_owned();
        let (_, detail) = platform.refused(&set(&Platform::expected()));
        assert!(detail.contains(objection), "{version}: {detail}");
    }
    platform.components()[3].version = "21.100".to_owned();
    platform.run(&set(&Platform::expected())).unwrap();
}

#[test]
fn t12_signers_are_those_that_are_listed() {
    let mut platform = Platform::new();
    let mut expected = Platform::expected();
    expected["tee"]["signers"] = json!(["", "aabb", "00112233"]);
    let (_, detail) = platform.refused(&set(&expected));
    assert!(detail.contains("\"tee\" is signed by \"\", who is not listed"), "{detail}");
    platform.components()[5].signer_id = vec![0xaa, 0xbb, 0xcc];
    platform.refused(&set(&expected));
    platform.components()[5].signer_id = vec![0xaa, 0xbb];
    platform.run(&set(&expected)).unwrap();
}

#[test]
fn t12_a_type_that_is_there_twice_is_refused() {
    let mut platform = Platform::new();
    let again = platform.components()[0].clone();
    platform.components().push(again);
    let (_, detail) = platform.refused(&set(&Platform::expected()));
    assert!(detail.contains("\"ipu\" is there more than once"), "{detail}");
}

#[test]
fn t12_degenerate_measurements_are_refused_unless_a_rule_names_them() {
    let mut platform = Platform::new();
    let sha256 = HashAlgorithm::Sha256;
    for degenerate in
        [Digest::zero(sha256), sha256.digest(&[0; 64]), sha256.digest(&[]), sha256.digest(&[0; 32])]
    {
        platform.components()[5].measurement = degenerate;
        assert_eq!(platform.refused(&json!({})).0, Code::MeasurementDegenerate);
        let mut expected = Platform::expected();
        expected["tee"] = json!({ "measurements": [degenerate] });
        assert_eq!(platform.refused(&set(&expected)).0, Code::MeasurementDegenerate);
        expected["tee"]["allow_degenerate"] = json!(true);
        platform.run(&set(&expected)).unwrap();
    }
}

#[test]
fn implementations_are_those_that_are_listed() {
    let platform = Platform::new();
    let (listed, other) = ("07".repeat(32), "08".repeat(32));
    platform.run(&json!({ "implementation_ids": [other, listed] })).unwrap();
    for list in [json!([]), json!([other]), json!(["07"])] {
        let (code, _) = platform.refused(&json!({ "implementation_ids": list }));
        assert_eq!(code, Code::ImplementationNotAllowed);
    }
}

#[test]
fn rules_are_strict_by_default_and_know_no_other_fields() {
    let rules: Rules = serde_json::from_str("{}").unwrap();
    assert_eq!(rules, Rules::default());
    assert!(!rules.virtcca.allow_legacy && rules.virtcca.components.is_none());
    for text in [
        r#"{"virtca": {}}"#,
        r#"{"virtcca": {"allow-legacy": true}}"#,
        r#"{"virtcca": {"components": {}}}"#,
        r#"{"virtcca": {"components": {"expected": {"tee": {"measurement": []}}}}}"#,
        r#"{"virtcca": {"components": {"expected": {"tee": {"minimum_version": "1.x"}}}}}"#,
        r#"{"virtcca": {"lifecycles": ["secure"]}}"#,
    ] {
        assert!(serde_json::from_str::<Rules>(text).is_err(), "{text}");
    }
}
