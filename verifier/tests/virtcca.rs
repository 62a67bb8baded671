//! The virtCCA pipeline from outside: good evidence of both flavours, and one story per way in which it is refused.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::sync::Arc;

use evidence::cca::{Lifecycle, LifecycleState};
use evidence::hash::HashAlgorithm;
use evidence::virtcca;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use verifier::testing::{Authority, Broken, DeviceSigner, Registered, VirtccaMint, digest};
use verifier::{
    Appraisal, AppraisalPolicy, Code, Context, DEFAULT_VIRTCCA_POLICY, PlatformTrust, Refusal, Rules, Step,
    VirtccaRules, appraise,
};

const CHALLENGE: [u8; 64] = [0x5a; 64];
const ALLOW_ALL: &str = "package attestation\noutput := {\"allow\": true}";

fn default_policies() -> Vec<AppraisalPolicy> {
    vec![AppraisalPolicy::new("default_virtcca.rego", DEFAULT_VIRTCCA_POLICY, Vec::new()).unwrap()]
}

fn with_rules(virtcca: VirtccaRules) -> Vec<AppraisalPolicy> {
    let policy = AppraisalPolicy::new("test.rego", ALLOW_ALL, Vec::new()).unwrap();
    vec![policy.with_rules(Rules { virtcca, ..Rules::default() })]
}

fn allow_legacy() -> Vec<AppraisalPolicy> {
    with_rules(VirtccaRules { allow_legacy: true, ..VirtccaRules::default() })
}

fn run(mint: &VirtccaMint, store: &Registered, policies: &[AppraisalPolicy]) -> Result<Appraisal, Refusal> {
    appraise(&mint.evidence(), &CHALLENGE, &store.context(policies))
}

#[track_caller]
fn refused(mint: &VirtccaMint, store: &Registered, policies: &[AppraisalPolicy]) -> (Step, Code) {
    let refusal = run(mint, store, policies).expect_err("the evidence was accepted");
    (refusal.step, refusal.code)
}

fn minted() -> (VirtccaMint, Registered) {
    let mint = VirtccaMint::new(CHALLENGE);
    let store = mint.registered();
    (mint, store)
}

/// T3, first half.
#[test]
fn t3_accepts_a_platform_token_of_a_p521_hierarchy_and_says_what_it_found() {
    let (mint, store) = minted();
    let appraisal = run(&mint, &store, &default_policies()).unwrap();

    let PlatformTrust::Certificates(device) = &appraisal.trust else { panic!("not by certificates") };
    assert!(device.subject.contains("device-0001") && device.root_subject.contains("Test ECC Root CA"));
    let status = &appraisal.tcb_status;
    assert_eq!(status["vcca.is_platform"], true);
    assert_eq!(status["vcca.key_binding"], "platform");
    assert_eq!(status["vcca.cvm.rim"], "11".repeat(32));
    assert_eq!(status["vcca.cvm.challenge"], "5a".repeat(64));
    let components = status["vcca.platform.measure_value"].as_array().unwrap();
    assert_eq!(components.len(), 6);
    assert_eq!(components[3]["firware_name"], "tf_bl2");
    assert_eq!(components[3]["firware_version"], "21.23.0");
    assert_eq!(components[3]["measurement"], HashAlgorithm::Sha256.digest(b"tf_bl2").to_string());
    assert_eq!(
        serde_json::to_value(&appraisal.claims).unwrap()["platform"]["software_components"][5]["result"],
        "unchecked"
    );
    assert_eq!(appraisal.policies[0].output["vcca.platform.verify"], "Not Verified");
}

/// T3, second half: five places, five codes.
#[test]
fn t3_a_flipped_bit_is_told_by_where_it_is() {
    let (mint, store) = minted();
    let evidence = mint.virtcca_evidence();
    let (platform, cvm) = (mint.platform_token().unwrap(), mint.cvm_token());
    let flip = |token: &[u8], part: &[u8], at: usize| {
        let start = token.windows(part.len()).position(|window| window == part).unwrap();
        let mut token = token.to_vec();
        token[start + at] ^= 1;
        token
    };
    let last = |token: &[u8]| flip(token, &token[token.len() - 8..], 4);
    let challenge = mint.platform.as_ref().unwrap().challenge;
    let code = |platform: &[u8], cvm: &[u8], certificate: &[u8]| {
        let evidence = evidence::envelope::VirtccaEvidence {
            token: virtcca::wrap(Some(platform), cvm),
            device_certificate: certificate.to_vec(),
            ..evidence.clone()
        };
        let evidence = evidence::envelope::Evidence::Virtcca(evidence);
        appraise(&evidence, &CHALLENGE, &store.context(&default_policies())).unwrap_err().code
    };
    let certificate = CertificateDer::from_pem_slice(&evidence.device_certificate).unwrap();
    assert_eq!(code(&last(&platform), &cvm, &certificate), Code::PlatformSignatureInvalid);
    assert_eq!(code(&platform, &last(&cvm), &certificate), Code::CvmSignatureInvalid);
    let key = flip(&cvm, mint.cvm.key.claim_bytes(), 40);
    assert_eq!(code(&platform, &key, &certificate), Code::CvmKeyInvalid);
    let unbound = flip(&platform, challenge.as_bytes(), 7);
    assert_eq!(code(&unbound, &cvm, &certificate), Code::KeyBindingMismatch);
    assert_eq!(code(&platform, &cvm, &last(&certificate)), Code::CertificateUntrusted);
}

#[test]
fn accepts_every_hash_algorithm_of_the_binding() {
    let (mut mint, store) = minted();
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        mint.bind(hash);
        run(&mint, &store, &default_policies()).unwrap();
    }
    mint.cvm.key_hash = HashAlgorithm::Sha256;
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::Binding, Code::KeyBindingMismatch));
}

#[test]
fn refuses_token_with_swapped_device_certificate() {
    let (mut mint, store) = minted();
    let other = DeviceSigner::p521();
    let certificate = mint.sub.issue(&VirtccaMint::device_params(), other.certified());
    mint.device_certificate = certificate.pem().into_bytes();
    assert_eq!(
        refused(&mint, &store, &default_policies()),
        (Step::PlatformSignature, Code::PlatformSignatureInvalid)
    );
}

#[test]
fn refuses_a_cvm_key_that_the_platform_does_not_name() {
    let (mut mint, store) = minted();
    mint.monitor = DeviceSigner::p521();
    mint.cvm.key = mint.monitor.cvm_key();
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::Binding, Code::KeyBindingMismatch));
}

#[test]
fn refuses_cvm_claims_that_the_named_key_did_not_sign() {
    let (mut mint, store) = minted();
    mint.monitor = DeviceSigner::p521();
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::CvmSignature, Code::CvmSignatureInvalid));
}

/// T4: without its Platform Token the evidence is no weaker evidence, but none.
#[test]
fn t4_refuses_evidence_whose_platform_token_was_stripped() {
    let (mut mint, store) = minted();
    mint.platform = None;
    let missing = (Step::Binding, Code::PlatformTokenMissing);
    assert_eq!(refused(&mint, &store, &default_policies()), missing);
    assert_eq!(refused(&mint, &store, &[]), missing);
    // A policy that allows legacy devices does not make this one of them: its certificate is not for the CVM's key.
    assert_eq!(refused(&mint, &store, &allow_legacy()), (Step::Binding, Code::KeyBindingMismatch));
    // One policy that does not allow it is enough.
    let both = [allow_legacy(), default_policies()].concat();
    assert_eq!(refused(&mint, &store, &both), missing);
}

/// T2: secGear accepts any genuine device certificate beside any self-signed CVM token.
#[test]
fn t2_refuses_a_legacy_token_whose_key_is_not_the_certificates() {
    let mut mint = VirtccaMint::legacy(CHALLENGE);
    let store = mint.registered();
    let appraisal = run(&mint, &store, &allow_legacy()).unwrap();
    assert_eq!(appraisal.tcb_status["vcca.is_platform"], false);
    assert_eq!(appraisal.tcb_status["vcca.key_binding"], "device_certificate");
    assert_eq!(appraisal.tcb_status["vcca.platform.measure_value"], serde_json::json!([]));
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::Binding, Code::PlatformTokenMissing));

    let mismatch = (Step::Binding, Code::KeyBindingMismatch);
    let other = DeviceSigner::p521();
    let genuine = mint.sub.issue(&VirtccaMint::device_params(), other.certified());
    let certificate = std::mem::replace(&mut mint.device_certificate, genuine.der().to_vec());
    assert_eq!(refused(&mint, &store, &allow_legacy()), mismatch);
    mint.device_certificate = certificate;
    mint.monitor = DeviceSigner::new_rsa_4096();
    mint.cvm.key = mint.monitor.cvm_key();
    assert_eq!(refused(&mint, &store, &allow_legacy()), mismatch);
}

/// T7: all 64 bytes count, also those behind a shorter challenge.
#[test]
fn t7_refuses_a_challenge_that_differs_in_any_of_its_64_bytes() {
    let mut short = [0; 64];
    short[..32].fill(0x5a);
    let (mut mint, store) = minted();
    mint.cvm.challenge = short;
    let policies = default_policies();
    appraise(&mint.evidence(), &short, &store.context(&policies)).unwrap();
    for position in [0, 31, 32, 63] {
        let mut other = mint.clone();
        other.cvm.challenge[position] ^= 0x80;
        let refusal = appraise(&other.evidence(), &short, &store.context(&policies)).unwrap_err();
        assert_eq!((refusal.step, refusal.code), (Step::Nonce, Code::NonceMismatch), "{position}");
    }
}

/// T13: what was proven does not depend on how it travelled.
#[test]
fn t13_every_dialect_and_spelling_gives_the_same_claims() {
    use evidence::envelope::{Dialect, Evidence};
    let (mint, store) = minted();
    let policies = default_policies();
    let claims = |json: &str| {
        let evidence = Evidence::from_json(json.as_bytes()).unwrap();
        let appraisal = appraise(&evidence, &CHALLENGE, &store.context(&policies)).unwrap();
        (appraisal.tee, appraisal.claims, appraisal.tcb_status)
    };
    let evidence = mint.evidence();
    let expected = claims(&evidence.to_json());
    for dialect in [Dialect::SecGear2509, Dialect::SecGear] {
        let json = evidence.to_json_as(dialect);
        assert_eq!(claims(&json), expected);
        for (from, to) in [("irtcca", "IRTCCA"), ("\"virtcca\"", "\"vcca\""), ("\"Virtcca\"", "\"VCCA\"")] {
            assert_eq!(claims(&json.replace(from, to)), expected);
        }
    }
}

/// T6: what made secGear's verifier panic is verified.
#[test]
fn t6_config_of_33_bytes_and_signer_of_32_are_verified() {
    let (mut mint, store) = minted();
    let platform = mint.platform.as_mut().unwrap();
    platform.config = vec![0xcf; 33];
    platform.components[0].signer_id = vec![0x51; 32];
    let appraisal = run(&mint, &store, &default_policies()).unwrap();
    assert_eq!(appraisal.tcb_status["vcca.platform.config"], "cf".repeat(33));
    assert_eq!(
        serde_json::to_value(&appraisal.claims).unwrap()["platform"]["software_components"][0]["signer_id"],
        "51".repeat(32)
    );
}

#[test]
fn refuses_bytes_that_are_no_token() {
    let (mint, store) = minted();
    let mut evidence = mint.virtcca_evidence();
    for token in [Vec::new(), b"not CBOR".to_vec(), evidence.token[..900].to_vec()] {
        evidence.token = token;
        let evidence = evidence::envelope::Evidence::Virtcca(evidence.clone());
        let refusal = appraise(&evidence, &CHALLENGE, &store.context(&default_policies())).unwrap_err();
        assert_eq!((refusal.step, refusal.code), (Step::Decode, Code::EvidenceMalformed));
    }
}

#[test]
fn lifecycles_are_those_that_every_policy_lists() {
    let (mut mint, store) = minted();
    let listing = |lifecycles: &[LifecycleState]| {
        with_rules(VirtccaRules { lifecycles: lifecycles.to_vec(), ..VirtccaRules::default() })
    };
    let refusal = (Step::Lifecycle, Code::LifecycleNotSecured);
    for lifecycle in [0x0000, 0x1000, 0x2000, 0x4000, 0x5000, 0x6000, 0x7000, 0xffff] {
        mint.platform.as_mut().unwrap().lifecycle = Lifecycle(lifecycle);
        assert_eq!(refused(&mint, &store, &default_policies()), refusal, "{lifecycle:#06x}");
    }
    mint.platform.as_mut().unwrap().lifecycle = Lifecycle(0x2000);
    let field = listing(&[LifecycleState::Secured, LifecycleState::RotProvisioning]);
    run(&mint, &store, &field).unwrap();
    assert_eq!(refused(&mint, &store, &[field, default_policies()].concat()), refusal);
    assert_eq!(refused(&mint, &store, &listing(&[])), refusal);
    assert_eq!(refused(&mint, &store, &[]), refusal);
}

#[test]
fn refuses_a_cvm_that_nobody_registered_and_compares_what_is_expected() {
    let (mint, mut store) = minted();
    let mut other = mint.clone();
    other.cvm.rim = digest(0x12);
    assert_eq!(refused(&other, &store, &default_policies()), (Step::ReferenceValues, Code::RimMismatch));
    store.references[0].rpv = Some([0; 64]);
    store.references[0].rems[3] = Some(digest(0x40));
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::ReferenceValues, Code::RemMismatch));
    let mut other = mint;
    other.cvm.rems[3] = digest(0x40);
    run(&other, &store, &default_policies()).unwrap();
    other.cvm.rpv[0] = 1;
    assert_eq!(refused(&other, &store, &default_policies()), (Step::ReferenceValues, Code::RpvMismatch));
}

#[test]
fn stores_that_cannot_be_read_refuse_and_say_so() {
    let (mint, store) = minted();
    let policies = default_policies();
    let context = Context { certificates: &Broken, ..store.context(&policies) };
    let refusal = appraise(&mint.evidence(), &CHALLENGE, &context).unwrap_err();
    assert_eq!((refusal.step, refusal.code), (Step::CertificateChain, Code::StoreUnavailable));
    let context = Context { references: &Broken, ..store.context(&policies) };
    let refusal = appraise(&mint.evidence(), &CHALLENGE, &context).unwrap_err();
    assert_eq!((refusal.step, refusal.code), (Step::ReferenceValues, Code::StoreUnavailable));
}

#[test]
fn the_default_policy_refuses_legacy_evidence_by_itself() {
    let mint = VirtccaMint::legacy(CHALLENGE);
    let rules = VirtccaRules { allow_legacy: true, ..VirtccaRules::default() };
    let policy = default_policies().remove(0).with_rules(Rules { virtcca: rules, ..Rules::default() });
    assert_eq!(refused(&mint, &mint.registered(), &[policy]), (Step::Policy, Code::PolicyDenied));
}

#[test]
fn revocation_lists_are_demanded_only_by_rule() {
    let (mint, mut store) = minted();
    let demanding = with_rules(VirtccaRules { require_crl: true, ..VirtccaRules::default() });
    let unknown = (Step::CertificateChain, Code::RevocationUnknown);
    assert_eq!(refused(&mint, &store, &demanding), unknown);
    let of_sub = mint.sub.revocation_list(&[], 2026..2028);
    store.bundle = Arc::new(mint.bundle(&[&of_sub]));
    assert_eq!(refused(&mint, &store, &demanding), unknown);
    let of_root = mint.root.revocation_list(&[], 2026..2028);
    store.bundle = Arc::new(mint.bundle(&[&of_sub, &of_root]));
    run(&mint, &store, &demanding).unwrap();
}

/// The very same token, whose Platform Token was verified a moment ago, beside another genuine device certificate.
#[test]
fn a_verified_platform_token_is_remembered_for_its_own_device_only() {
    let (mint, store) = minted();
    let policies = default_policies();
    let mut evidence = mint.virtcca_evidence();
    let mut run = |certificate: Option<Vec<u8>>| {
        evidence.device_certificate = certificate.unwrap_or_else(|| evidence.device_certificate.clone());
        let evidence = evidence::envelope::Evidence::Virtcca(evidence.clone());
        appraise(&evidence, &CHALLENGE, &store.context(&policies)).map_err(|refusal| refusal.code)
    };
    run(None).unwrap();
    run(None).unwrap();
    let other = mint.sub.issue(&Authority::params("device-0002"), DeviceSigner::p521().certified());
    assert_eq!(run(Some(other.pem().into_bytes())).unwrap_err(), Code::PlatformSignatureInvalid);
}

/// Two genuine Platform Tokens of one device, and a forgery: each is taken for itself, whatever was verified before.
#[test]
fn a_verified_platform_token_is_not_taken_for_another() {
    let (mut mint, store) = minted();
    let policies = default_policies();
    let config = |appraisal: &Appraisal| {
        serde_json::to_value(&appraisal.claims).unwrap()["platform"]["config"].as_str().unwrap().to_owned()
    };
    let first = config(&run(&mint, &store, &policies).unwrap());
    mint.platform.as_mut().unwrap().config = vec![0xaa; 5];
    let second = config(&run(&mint, &store, &policies).unwrap());
    assert_ne!(first, second);
    assert_eq!(second, "aaaaaaaaaa");

    let genuine = mint.platform_token().unwrap();
    let mut forged = genuine.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut evidence = mint.virtcca_evidence();
    let mut run = |platform: &[u8]| {
        evidence.token = virtcca::wrap(Some(platform), &mint.cvm_token());
        let evidence = evidence::envelope::Evidence::Virtcca(evidence.clone());
        appraise(&evidence, &CHALLENGE, &store.context(&policies)).map(drop).map_err(|refusal| refusal.code)
    };
    for _ in 0..2 {
        assert_eq!(run(&genuine), Ok(()));
        assert_eq!(run(&forged), Err(Code::PlatformSignatureInvalid));
    }
}
