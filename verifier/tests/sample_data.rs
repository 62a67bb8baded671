//! T1 and T2 with evidence of real devices. Not part of the default run: the data is not ours to copy.
//!
//! `REDOUBT_VECTORS=<folder> cargo test -p verifier --features sample-data --test sample_data`. The folder has
//! `virtcca-legacy-evidence.json` of Global Trust Authority, `virtcca-secgear.cbor` of secGear's test data (its hexadecimal
//! text as bytes) and `virtcca-authorities.pem`, the vendor's four authorities.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::path::PathBuf;
use std::sync::Arc;

use evidence::envelope::{Evidence, VirtccaEvidence};
use evidence::virtcca::VirtccaToken;
use verifier::chain::TrustBundle;
use verifier::testing::Registered;
use verifier::{Appraisal, AppraisalPolicy, Code, Refusal, Rules, VirtccaRules, appraise};

fn read(name: &str) -> Vec<u8> {
    let folder = std::env::var("REDOUBT_VECTORS").expect("set REDOUBT_VECTORS to the folder of samples");
    let path = PathBuf::from(folder).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn legacy() -> VirtccaEvidence {
    match Evidence::from_json(&read("virtcca-legacy-evidence.json")).unwrap() {
        Evidence::Virtcca(evidence) => evidence,
        Evidence::Cca(_) => panic!("evidence of CCA"),
    }
}

/// Appraises for the token's own challenge and measurement, with the vendor's real authorities.
fn run(evidence: VirtccaEvidence, rules: VirtccaRules) -> Result<Appraisal, Refusal> {
    let cvm = VirtccaToken::decode(&evidence.token).unwrap().cvm.claims;
    let mut store = Registered::with_reference(cvm.rim);
    store.references[0].rems = cvm.rems.map(Some);
    let authorities = read("virtcca-authorities.pem");
    store.bundle = Arc::new(TrustBundle::new([("virtcca-authorities.pem", &authorities[..])], []).unwrap());
    assert_eq!(store.bundle.authorities().len(), 4);
    let policy =
        AppraisalPolicy::new("test.rego", "package attestation\noutput := {\"allow\": true}", Vec::new());
    let policies = [policy.unwrap().with_rules(Rules { virtcca: rules, ..Rules::default() })];
    appraise(&Evidence::Virtcca(evidence), &cvm.challenge, &store.context(&policies))
}

fn allow_legacy() -> VirtccaRules {
    VirtccaRules { allow_legacy: true, ..VirtccaRules::default() }
}

#[test]
fn t1_the_legacy_evidence_of_a_real_device_is_verified_to_the_vendors_root() {
    let appraisal = run(legacy(), allow_legacy()).unwrap();
    assert_eq!(appraisal.tcb_status["vcca.is_platform"], false);
    assert_eq!(appraisal.tcb_status["vcca.key_binding"], "device_certificate");
    assert!(appraisal.trust.name().contains("Huawei Equipment CA"));
    assert_eq!(run(legacy(), VirtccaRules::default()).unwrap_err().code, Code::PlatformTokenMissing);
}

#[test]
fn t2_a_real_token_beside_the_certificate_of_another_real_device_is_refused() {
    let token = read("virtcca-secgear.cbor");
    let refusal = run(VirtccaEvidence { token, ..legacy() }, allow_legacy()).unwrap_err();
    assert_eq!(refusal.code, Code::KeyBindingMismatch);
}
