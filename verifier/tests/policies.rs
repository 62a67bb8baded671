//! The policies in `policies/`, through the verifier.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::sync::Arc;

use evidence::cca::{Lifecycle, LifecycleState};
use rcgen::PKCS_ECDSA_P521_SHA512;
use verifier::testing::{Authority, Mint, VirtccaMint};
use verifier::{Appraisal, AppraisalPolicy, Code, DEFAULT_CCA_POLICY, Exception, Refusal, appraise};

const DEMO_VIRTCCA: &str = include_str!("../../policies/demo_virtcca.rego");
const DEMO_VIRTCCA_RULES: &str = include_str!("../../policies/demo_virtcca.rules.json");
const DEMO: &str = include_str!("../../policies/demo_cca.rego");
const DEMO_EXCEPTIONS: &str = include_str!("../../policies/demo_cca.exceptions.json");

fn demo() -> AppraisalPolicy {
    AppraisalPolicy::new("default_cca.rego", DEMO, serde_json::from_str(DEMO_EXCEPTIONS).unwrap()).unwrap()
}

fn run(
    lifecycle: u16,
    anchor: &str,
    development: bool,
    policy: AppraisalPolicy,
) -> Result<Appraisal, Refusal> {
    let mut mint = Mint::new([1; 64]);
    mint.platform.lifecycle = Lifecycle(lifecycle);
    let mut store = mint.registered();
    anchor.clone_into(&mut store.anchor().name);
    store.anchor().development = development;
    appraise(&mint.evidence(), &[1; 64], &store.context(&[policy]))
}

/// The default policy's own rules, seen behind exceptions that open the verifier's.
fn default_behind_exceptions() -> AppraisalPolicy {
    let exception = Exception {
        trust_anchor: "demo-platform".to_owned(),
        development: true,
        lifecycles: vec![LifecycleState::NonRotDebug],
    };
    AppraisalPolicy::new("default_cca.rego", DEFAULT_CCA_POLICY, vec![exception]).unwrap()
}

#[test]
fn default_policy_allows_production_keys_of_secured_platforms() {
    let output =
        run(0x3000, "demo-platform", false, default_behind_exceptions()).unwrap().policies.remove(0).output;
    assert_eq!(output["cca.platform.lifecycle"], "secured");
}

#[test]
fn default_policy_refuses_other_lifecycles_by_itself() {
    let refusal = run(0x4000, "demo-platform", false, default_behind_exceptions()).unwrap_err();
    assert_eq!(refusal.code, Code::PolicyDenied);
}

#[test]
fn default_policy_refuses_development_keys_by_itself() {
    let refusal = run(0x3000, "demo-platform", true, default_behind_exceptions()).unwrap_err();
    assert_eq!(refusal.code, Code::PolicyDenied);
}

#[test]
fn demo_policy_allows_the_named_development_anchor() {
    for lifecycle in [0x0000, 0x2000, 0x3000, 0x4000, 0x5000] {
        run(lifecycle, "demo-platform", true, demo()).unwrap();
    }
}

#[test]
fn demo_policy_allows_no_other_anchor() {
    assert_eq!(run(0x4000, "other", false, demo()).unwrap_err().code, Code::LifecycleNotSecured);
    assert_eq!(run(0x3000, "other", true, demo()).unwrap_err().code, Code::TrustAnchorDevelopment);
    assert_eq!(run(0x3000, "other", false, demo()).unwrap_err().code, Code::PolicyDenied);
}

#[test]
fn demo_policy_refuses_a_decommissioned_platform() {
    assert_eq!(run(0x6000, "demo-platform", true, demo()).unwrap_err().code, Code::LifecycleNotSecured);
}

/// A software Realm's virtCCA evidence, with a root of this name.
fn soft_virtcca(root: &str) -> VirtccaMint {
    let mut mint = VirtccaMint::new([1; 64]);
    let mut params = Authority::ca_params(root, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, root);
    let root = Authority::root(params, &PKCS_ECDSA_P521_SHA512);
    mint.sub = Arc::new(root.sub(Authority::ca_params("sub", 0), &PKCS_ECDSA_P521_SHA512));
    mint.root = Arc::new(root);
    let mut mint = mint.with_device_params(&VirtccaMint::device_params());
    let platform = mint.platform.as_mut().unwrap();
    platform.lifecycle = Lifecycle(0x5000);
    platform.components.truncate(1);
    "SOFT-RMM".clone_into(&mut platform.components[0].kind);
    mint
}

fn run_virtcca(mint: &VirtccaMint) -> Result<Appraisal, Refusal> {
    let policy = AppraisalPolicy::new("default_vcca.rego", DEMO_VIRTCCA, Vec::new()).unwrap();
    let policy = policy.with_rules(serde_json::from_str(DEMO_VIRTCCA_RULES).unwrap());
    appraise(&mint.evidence(), &[1; 64], &mint.registered().context(&[policy]))
}

#[test]
fn demo_policy_for_virtcca_allows_devices_of_the_demos_root_in_the_lifecycle_of_a_software_realm() {
    let appraisal = run_virtcca(&soft_virtcca("Redoubt demo root")).unwrap();
    assert_eq!(appraisal.policies[0].output["vcca.platform.lifecycle"], "recoverable_rot_debug");
    assert_eq!(run_virtcca(&soft_virtcca("Redoubt other root")).unwrap_err().code, Code::PolicyDenied);
}

#[test]
fn demo_policy_for_virtcca_makes_no_other_exception() {
    let refused = |change: fn(&mut VirtccaMint)| {
        let mut mint = soft_virtcca("Redoubt demo root");
        change(&mut mint);
        run_virtcca(&mint).unwrap_err().code
    };
    let lifecycle = |mint: &mut VirtccaMint| mint.platform.as_mut().unwrap().lifecycle = Lifecycle(0x4000);
    assert_eq!(refused(lifecycle), Code::LifecycleNotSecured);
    assert_eq!(refused(|mint| mint.platform = None), Code::PlatformTokenMissing);
    let software =
        |mint: &mut VirtccaMint| mint.platform.as_mut().unwrap().components[0].kind = "uefi".into();
    assert_eq!(refused(software), Code::ComponentNotAllowed);
}

#[test]
fn a_policy_that_cannot_be_used_is_refused_when_it_is_written() {
    for text in [
        "",
        "package other\noutput := {}",
        "package attestation\nallow := true",
        "package attestation\noutput := {",
    ] {
        assert!(AppraisalPolicy::new("bad.rego", text, Vec::new()).is_err(), "{text}");
    }
    let long = format!("package attestation\noutput := {{\"allow\": true}}\n# {}", "x".repeat(300 * 1024));
    assert!(AppraisalPolicy::new("long.rego", &long, Vec::new()).is_err());
}

#[test]
fn an_unknown_field_in_an_exception_is_an_error() {
    let text = r#"[{"trust_anchor": "a", "developement": true}]"#;
    assert!(serde_json::from_str::<Vec<Exception>>(text).is_err());
}
