//! The pipeline from outside: one good token, and one story per way in which a token is refused.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use evidence::cca::{Lifecycle, LifecycleState, RealmKey};
use evidence::envelope::Evidence;
use evidence::hash::HashAlgorithm;
use verifier::testing::{
    ANCHOR, Broken, Mint, PUBLISHED_CPAK, PUBLISHED_RAK, Registered, digest, key, key_from_hex, point,
};
use verifier::{
    Appraisal, AppraisalPolicy, Code, Context, DEFAULT_CCA_POLICY, Exception, PlatformTrust, PublicKey,
    Refusal, Step, appraise,
};

const CHALLENGE: [u8; 64] = [0x5a; 64];
const ALLOW_ALL: &str = "package attestation\noutput := {\"allow\": true}";

fn default_policies() -> Vec<AppraisalPolicy> {
    vec![AppraisalPolicy::new("default_cca.rego", DEFAULT_CCA_POLICY, Vec::new()).unwrap()]
}

fn rego(text: &str) -> Vec<AppraisalPolicy> {
    vec![AppraisalPolicy::new("test.rego", text, Vec::new()).unwrap()]
}

fn exception(trust_anchor: &str, development: bool, lifecycles: &[LifecycleState]) -> Vec<AppraisalPolicy> {
    let exception =
        Exception { trust_anchor: trust_anchor.to_owned(), development, lifecycles: lifecycles.to_vec() };
    vec![AppraisalPolicy::new("test.rego", ALLOW_ALL, vec![exception]).unwrap()]
}

fn run(evidence: &Evidence, store: &Registered, policies: &[AppraisalPolicy]) -> Result<Appraisal, Refusal> {
    appraise(evidence, &CHALLENGE, &store.context(policies))
}

/// Appraises what `mint` signs against what was registered before it was changed.
#[track_caller]
fn refused(mint: &Mint, store: &Registered, policies: &[AppraisalPolicy]) -> (Step, Code) {
    let refusal = run(&mint.evidence(), store, policies).expect_err("the evidence was accepted");
    (refusal.step, refusal.code)
}

fn minted() -> (Mint, Registered) {
    let mint = Mint::new(CHALLENGE);
    let store = mint.registered();
    (mint, store)
}

#[test]
fn t15_accepts_a_registered_realm_on_a_secured_platform_and_says_what_it_matched() {
    let (mint, mut store) = minted();
    let appraisal = run(&mint.evidence(), &store, &default_policies()).unwrap();

    assert_eq!(appraisal.trust, PlatformTrust::Anchor(store.anchor().clone()));
    assert_eq!(appraisal.reference, store.references[0]);
    assert_eq!(appraisal.tcb_status["cca.realm.rim"], "11".repeat(32));
    assert_eq!(appraisal.tcb_status["cca.realm.rem.3"], "00".repeat(32));
    assert_eq!(appraisal.tcb_status["cca.platform.lifecycle"]["state"], "secured");
    let claims = serde_json::to_value(&appraisal.claims).unwrap();
    assert_eq!(claims["platform"]["software_components"][0]["version"], "1.0");
    assert_eq!(appraisal.policies[0].output["allow"], true);
}

#[test]
fn refuses_bytes_that_are_no_token() {
    let (mint, store) = minted();
    let mut token = mint.token();
    token.truncate(token.len() - 1);
    for bytes in [Vec::new(), b"not CBOR".to_vec(), token] {
        let refusal = run(&Evidence::cca(bytes), &store, &default_policies()).unwrap_err();
        assert_eq!((refusal.step, refusal.code), (Step::Decode, Code::EvidenceMalformed));
    }
}

#[test]
fn refuses_a_platform_that_nobody_registered() {
    let (mint, store) = minted();
    let unknown = (Step::PlatformSignature, Code::TrustAnchorUnknown);
    let mut other = mint.clone();
    other.platform.implementation_id[0] ^= 1;
    assert_eq!(refused(&other, &store, &default_policies()), unknown);
    let mut other = mint;
    other.platform.instance_id[32] ^= 1;
    assert_eq!(refused(&other, &store, &default_policies()), unknown);
}

#[test]
fn t15_refuses_a_token_with_a_swapped_platform_key() {
    let (mut mint, store) = minted();
    mint.cpak = key(3);
    assert_eq!(
        refused(&mint, &store, &default_policies()),
        (Step::PlatformSignature, Code::PlatformSignatureInvalid)
    );
}

#[test]
fn refuses_the_published_platform_key_even_if_it_is_registered() {
    let (mut mint, _) = minted();
    mint.cpak = key_from_hex(PUBLISHED_CPAK);
    let store = mint.registered();
    assert_eq!(
        refused(&mint, &store, &default_policies()),
        (Step::PlatformSignature, Code::TrustAnchorDenied)
    );
}

#[test]
fn refuses_the_published_realm_key_even_if_the_platform_vouches_for_it() {
    let (mint, store) = minted();
    let mint = mint.with_rak(key_from_hex(PUBLISHED_RAK));
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::RealmSignature, Code::TrustAnchorDenied));
}

#[test]
fn refuses_a_realm_key_that_the_platform_does_not_vouch_for() {
    let (mut mint, store) = minted();
    let own = key(4);
    mint.realm.rak = RealmKey::cose_p384(&point(&own)).unwrap();
    mint.rak = own;
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::Binding, Code::KeyBindingMismatch));
}

#[test]
fn refuses_a_binding_under_another_hash_algorithm() {
    let (mut mint, store) = minted();
    mint.realm.rak_hash = HashAlgorithm::Sha384;
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::Binding, Code::KeyBindingMismatch));
}

#[test]
fn refuses_realm_claims_that_the_bound_key_did_not_sign() {
    let (mut mint, store) = minted();
    mint.rak = key(5);
    assert_eq!(
        refused(&mint, &store, &default_policies()),
        (Step::RealmSignature, Code::RealmSignatureInvalid)
    );
}

#[test]
fn refuses_a_realm_key_that_is_no_point_of_its_curve() {
    let (mut mint, store) = minted();
    let mut bad = point(&mint.rak);
    *bad.last_mut().unwrap() ^= 1;
    mint.realm.rak = RealmKey::cose_p384(&bad).unwrap();
    mint.platform.nonce = HashAlgorithm::Sha256.digest(mint.realm.rak.claim_bytes()).as_bytes().to_vec();
    assert_eq!(
        refused(&mint, &store, &default_policies()),
        (Step::RealmSignature, Code::RealmSignatureInvalid)
    );
}

#[test]
fn t15_refuses_a_challenge_that_differs_in_any_of_its_64_bytes() {
    let (mint, store) = minted();
    for position in 0..64 {
        let mut other = mint.clone();
        other.realm.challenge[position] ^= 0x80;
        assert_eq!(
            refused(&other, &store, &default_policies()),
            (Step::Nonce, Code::NonceMismatch),
            "{position}"
        );
    }
}

#[test]
fn refuses_every_lifecycle_but_secured() {
    let (mint, store) = minted();
    for lifecycle in [0x0000, 0x1000, 0x2000, 0x4000, 0x5000, 0x6000] {
        let mut other = mint.clone();
        other.platform.lifecycle = Lifecycle(lifecycle);
        let refused = refused(&other, &store, &rego(ALLOW_ALL));
        assert_eq!(refused, (Step::Lifecycle, Code::LifecycleNotSecured), "{lifecycle:#06x}");
    }
}

#[test]
fn allows_another_lifecycle_only_for_the_named_anchor_and_the_named_state() {
    use LifecycleState::{NonRotDebug, Unknown};
    let (mut mint, store) = minted();
    mint.platform.lifecycle = Lifecycle(0x4000);
    let not_secured = (Step::Lifecycle, Code::LifecycleNotSecured);

    assert!(run(&mint.evidence(), &store, &exception(ANCHOR, false, &[NonRotDebug])).is_ok());
    assert_eq!(refused(&mint, &store, &exception("other", false, &[NonRotDebug])), not_secured);
    assert_eq!(refused(&mint, &store, &exception(ANCHOR, false, &[Unknown])), not_secured);
    assert_eq!(refused(&mint, &store, &[]), not_secured);
}

#[test]
fn an_additional_policy_narrows_and_never_widens() {
    let (mut mint, store) = minted();
    mint.platform.lifecycle = Lifecycle(0x4000);
    let mut policies = default_policies();
    policies.extend(exception(ANCHOR, false, &[LifecycleState::NonRotDebug]));
    assert_eq!(refused(&mint, &store, &policies), (Step::Lifecycle, Code::LifecycleNotSecured));
}

#[test]
fn t15_refuses_a_realm_that_nobody_registered() {
    let (mut mint, store) = minted();
    mint.realm.rim = digest(0x12);
    assert_eq!(refused(&mint, &store, &default_policies()), (Step::ReferenceValues, Code::RimMismatch));
}

#[test]
fn refuses_a_reference_that_the_store_gave_for_another_rim() {
    struct Careless(Registered);
    impl verifier::ReferenceValues for Careless {
        fn realm(
            &self,
            _: &evidence::hash::Digest,
        ) -> Result<Vec<verifier::RealmReference>, verifier::StoreError> {
            Ok(self.0.references.clone())
        }
    }
    let (mut mint, store) = minted();
    mint.realm.rim = digest(0x12);
    let careless = Careless(store.clone());
    let policies = default_policies();
    let context = Context { references: &careless, ..store.context(&policies) };
    let refusal = appraise(&mint.evidence(), &CHALLENGE, &context).unwrap_err();
    assert_eq!(refusal.code, Code::RimMismatch);
}

#[test]
fn compares_the_personalisation_value_when_one_is_expected() {
    let (mint, mut store) = minted();
    store.references[0].rpv = Some([0; 64]);
    assert!(run(&mint.evidence(), &store, &default_policies()).is_ok());
    let mut other = mint;
    other.realm.rpv[63] = 1;
    assert_eq!(refused(&other, &store, &default_policies()), (Step::ReferenceValues, Code::RpvMismatch));
}

#[test]
fn compares_each_extensible_measurement_that_is_expected() {
    let (mint, store) = minted();
    for index in 0..4 {
        let mut store = store.clone();
        store.references[0].rems[index] = Some(digest(0x40));
        let mut other = mint.clone();
        assert_eq!(refused(&other, &store, &default_policies()), (Step::ReferenceValues, Code::RemMismatch));
        other.realm.rems[index] = digest(0x40);
        assert!(run(&other.evidence(), &store, &default_policies()).is_ok());
    }
}

#[test]
fn one_full_match_among_several_references_is_enough() {
    let (mint, mut store) = minted();
    let mut strict = store.references[0].clone();
    strict.name = "strict".to_owned();
    strict.rems[0] = Some(digest(0x40));
    store.references.insert(0, strict);
    let appraisal = run(&mint.evidence(), &store, &default_policies()).unwrap();
    assert_eq!(appraisal.reference.name, "guest");
}

#[test]
fn refuses_a_development_key_unless_a_policy_names_it() {
    let (mint, mut store) = minted();
    store.anchor().development = true;
    let development = (Step::Policy, Code::TrustAnchorDevelopment);
    assert_eq!(refused(&mint, &store, &rego(ALLOW_ALL)), development);
    assert_eq!(refused(&mint, &store, &exception("other", true, &[])), development);
    assert_eq!(refused(&mint, &store, &exception(ANCHOR, false, &[])), development);
    assert!(run(&mint.evidence(), &store, &exception(ANCHOR, true, &[])).is_ok());
}

#[test]
fn refuses_without_any_policy() {
    let (mint, store) = minted();
    assert_eq!(refused(&mint, &store, &[]), (Step::Policy, Code::PolicyError));
}

#[test]
fn refuses_what_the_policy_does_not_allow() {
    let (mint, store) = minted();
    let denied = (Step::Policy, Code::PolicyDenied);
    for output in [
        "{}",
        "{\"allow\": false}",
        "{\"allow\": \"true\"}",
        "{\"allow\": 1}",
        "{\"allow\": true, \"other\": null}",
    ] {
        let policies = rego(&format!("package attestation\noutput := {output}"));
        assert_eq!(refused(&mint, &store, &policies), denied, "{output}");
    }
}

#[test]
fn refuses_when_the_policy_gives_no_object() {
    let (mint, store) = minted();
    for output in
        ["true", "[true]", "\"allow\"", "{\"allow\": true} if input.nothing == 1", "{\"allow\": 1 / 0}"]
    {
        let policies = rego(&format!("package attestation\noutput := {output}"));
        assert_eq!(refused(&mint, &store, &policies), (Step::Policy, Code::PolicyError), "{output}");
    }
}

#[test]
fn one_objecting_policy_among_several_refuses() {
    let (mint, store) = minted();
    let mut policies = default_policies();
    policies.extend(rego("package attestation\noutput := {\"allow\": false}"));
    assert_eq!(refused(&mint, &store, &policies), (Step::Policy, Code::PolicyDenied));
}

#[test]
fn policies_see_typed_claims() {
    let (mint, store) = minted();
    let policies = rego(
        r#"package attestation
        output := {"allow": allow}
        default allow := false
        allow if {
            input.tee == "cca"
            some component in input.claims.platform.software_components
            component.type == "BL"
            input.claims.platform.lifecycle.value == 12291
            input.claims.trust_anchor.development == false
            input.claims.reference.name == "guest"
            count(input.claims.realm.extensible_measurements) == 4
        }"#,
    );
    run(&mint.evidence(), &store, &policies).unwrap();
}

#[test]
fn a_policy_that_does_not_end_is_stopped() {
    let (mint, store) = minted();
    let policies = rego(
        "package attestation
        output := {\"allow\": count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a + b < 0]) == 0}",
    );
    assert_eq!(refused(&mint, &store, &policies), (Step::Policy, Code::PolicyError));
}

#[test]
fn a_store_that_cannot_be_read_refuses_and_says_so() {
    let (mint, store) = minted();
    let policies = default_policies();
    let context = Context { anchors: &Broken, ..store.context(&policies) };
    let refusal = appraise(&mint.evidence(), &CHALLENGE, &context).unwrap_err();
    assert_eq!((refusal.step, refusal.code), (Step::PlatformSignature, Code::StoreUnavailable));
    let context = Context { references: &Broken, ..store.context(&policies) };
    let refusal = appraise(&mint.evidence(), &CHALLENGE, &context).unwrap_err();
    assert_eq!((refusal.step, refusal.code), (Step::ReferenceValues, Code::StoreUnavailable));
}

#[test]
fn any_flipped_byte_of_a_good_token_is_refused() {
    let (mint, store) = minted();
    let token = mint.token();
    let policies = default_policies();
    for position in 0..token.len() {
        let mut bad = token.clone();
        bad[position] ^= 0x01;
        assert!(run(&Evidence::cca(bad), &store, &policies).is_err(), "byte {position} was not protected");
    }
}

#[test]
fn keys_are_points_of_a_known_curve_and_nothing_else() {
    let pem = Mint::new(CHALLENGE).public_key_pem();
    assert_eq!(PublicKey::from_pem(&pem).unwrap().curve(), "P-384");
    assert!(PublicKey::from_pem("").is_err());
    assert!(PublicKey::from_pem(&pem.replace("PUBLIC", "PRIVATE")).is_err());
    let mut off_curve = point(&key(1));
    off_curve[96] ^= 1;
    assert!(PublicKey::from_sec1(&off_curve).is_err());
    assert!(PublicKey::from_sec1(&[]).is_err());
    assert!(PublicKey::from_sec1(&[4; 97]).is_err());
}
