//! T1 and T2 with evidence of real devices. Not part of the default run: the data is not ours to copy.
//!
//! `REDOUBT_VECTORS=<folder> cargo test -p verifier --features sample-data --test sample_data`. The folder has
//! `virtcca-legacy-evidence.json` of Global Trust Authority, `cca-token-01.cbor` and `cpak.json` of Veraison, and for the
//! tests that end at the vendor's root also `virtcca-secgear.cbor` of secGear's test data (its hexadecimal text as bytes)
//! and `virtcca-authorities.pem`, the vendor's four authorities. Without these two files those tests fail; leave them out
//! with `--skip vendors`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::cca::CcaToken;
use evidence::envelope::{Evidence, VirtccaEvidence};
use evidence::tcg::EventLog;
use evidence::virtcca::VirtccaToken;
use serde_json::Value;
use verifier::chain::TrustBundle;
use verifier::logs::{self, Explained, LogRules};
use verifier::testing::{Mint, Registered};
use verifier::{
    Appraisal, AppraisalPolicy, AwsLc, Code, PublicKey, Refusal, Rules, SignatureVerifier as _, VirtccaRules,
    appraise,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

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

/// Everything that can be verified of a real device's evidence without its vendor's root, and that it is not enough.
#[test]
fn t1_the_legacy_evidence_of_a_real_device_holds_together_and_is_not_believed_without_a_root() {
    let evidence = legacy();
    let token = VirtccaToken::decode(&evidence.token).unwrap();
    assert!(token.platform.is_none());
    let (cvm, key) = (&token.cvm, &token.cvm.claims.key);
    let (_, certificate) = X509Certificate::from_der(&evidence.device_certificate).unwrap();
    assert_eq!(certificate.public_key().raw, key.claim_bytes(), "the device's key is the CVM's");
    AwsLc.verify(cvm.algorithm, key.claim_bytes(), cvm.to_be_signed(), cvm.signature()).unwrap();
    let mut forged = cvm.to_be_signed().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(AwsLc.verify(cvm.algorithm, key.claim_bytes(), &forged, cvm.signature()).is_err());

    let log = &evidence.logs.boot.as_ref().expect("a boot log").data;
    assert_eq!(EventLog::decode(log).unwrap().events.len(), 98);
    let logs = logs::attest(Some(log), None, cvm.claims.hash, &cvm.claims.rems).unwrap();
    let report = logs.judge(None, [false; 4], &LogRules::default()).unwrap();
    assert_eq!(report.registers, [Explained::Boot, Explained::Boot, Explained::Boot, Explained::Zero]);

    let challenge = cvm.claims.challenge;
    let store = Registered::with_reference(cvm.claims.rim);
    let policy =
        AppraisalPolicy::new("test.rego", "package attestation\noutput := {\"allow\": true}", Vec::new());
    let policies = [policy.unwrap().with_rules(Rules { virtcca: allow_legacy(), ..Rules::default() })];
    let refusal = appraise(&Evidence::Virtcca(evidence), &challenge, &store.context(&policies)).unwrap_err();
    assert_eq!(refusal.code, Code::CertificateUntrusted);
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
fn t2_a_real_token_beside_another_real_certificate_is_refused_though_the_vendors_root_is_trusted() {
    let token = read("virtcca-secgear.cbor");
    let refusal = run(VirtccaEvidence { token, ..legacy() }, allow_legacy()).unwrap_err();
    assert_eq!(refusal.code, Code::KeyBindingMismatch);
}

/// Veraison's sample is signed by keys that it also publishes: genuine, and worth nothing.
#[test]
fn t15_a_published_token_holds_together_and_its_published_key_is_refused() {
    let bytes = read("cca-token-01.cbor");
    let token = CcaToken::decode(&bytes).unwrap();
    let jwk: Value = serde_json::from_slice(&read("cpak.json")).unwrap();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (platform, realm) = (&token.platform, &token.realm);
    AwsLc.verify(platform.algorithm, &point, platform.to_be_signed(), platform.signature()).unwrap();
    let rak = &realm.claims.rak;
    AwsLc.verify(realm.algorithm, rak.sec1_point(), realm.to_be_signed(), realm.signature()).unwrap();

    let mut store = Mint::new(realm.claims.challenge).registered();
    store.references[0].rim = realm.claims.rim;
    let claims = &platform.claims;
    let anchor = verifier::TrustAnchor {
        key: PublicKey::from_sec1(&point).unwrap(),
        development: false,
        ..store.anchor().clone()
    };
    store.platform = Some((claims.implementation_id, claims.instance_id, anchor));
    let policy =
        AppraisalPolicy::new("test.rego", "package attestation\noutput := {\"allow\": true}", Vec::new())
            .unwrap();
    let refused = |evidence: Evidence, store: &Registered, challenge: &[u8; 64]| {
        appraise(&evidence, challenge, &store.context(&[policy.clone()])).unwrap_err().code
    };
    let evidence = || Evidence::cca(bytes.clone());
    assert_eq!(refused(evidence(), &store, &realm.claims.challenge), Code::TrustAnchorDenied);
    let other = Mint::new([0; 64]).registered().anchor().key.clone();
    store.anchor().key = other;
    assert_eq!(refused(evidence(), &store, &realm.claims.challenge), Code::PlatformSignatureInvalid);
}
