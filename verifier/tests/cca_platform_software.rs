//! Reference values for the software and configuration of CCA platforms.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

use evidence::cca::SoftwareComponent;
use evidence::hash::{Digest, HashAlgorithm};
use verifier::corim::{ComponentEndorsement, MaskedValue, PlatformEndorsement};
use verifier::testing::{Mint, NOW, Registered, digest};
use verifier::{
    Appraisal, AppraisalPolicy, Code, Context, DEFAULT_CCA_POLICY, PlatformReference, Provenance, Refusal,
    Step, appraise,
};

const CHALLENGE: [u8; 64] = [0x5a; 64];

fn run(mint: &Mint, store: &Registered) -> Result<Appraisal, Refusal> {
    let policy = AppraisalPolicy::new("default_cca.rego", DEFAULT_CCA_POLICY, Vec::new()).unwrap();
    appraise(&mint.evidence(), &CHALLENGE, &store.context(&[policy]))
}

/// A reference that the platform of `mint` matches.
fn matching(mint: &Mint) -> PlatformReference {
    let component = |found: &SoftwareComponent| ComponentEndorsement {
        component_type: found.kind.clone(),
        version: found.version.clone(),
        measurements: vec![found.measurement],
        signer_id: found.signer_id,
    };
    let config = mint.platform.config.clone();
    PlatformReference {
        name: "firmware".to_owned(),
        expected: PlatformEndorsement {
            implementation_id: mint.platform.implementation_id,
            instance_id: None,
            components: mint.platform.components.iter().map(component).collect(),
            configuration: MaskedValue { mask: vec![0xff; config.len()], value: config },
        },
        provenance: Provenance { source: "vendor".to_owned(), added_at: NOW },
        expires_at: None,
    }
}

fn component(kind: &str, byte: u8) -> SoftwareComponent {
    SoftwareComponent {
        kind: Some(kind.to_owned()),
        measurement: digest(byte),
        version: Some("2.0".to_owned()),
        signer_id: digest(0x32),
        hash: None,
    }
}

/// A platform with two components.
fn mint() -> Mint {
    let mut mint = Mint::new(CHALLENGE);
    mint.platform.components.push(component("RMM", 0x33));
    mint
}

/// What becomes of the platform if its matching reference is changed so.
fn with(change: impl FnOnce(&mut PlatformReference)) -> Result<Appraisal, Code> {
    let mint = mint();
    let mut reference = matching(&mint);
    change(&mut reference);
    let mut store = mint.registered();
    store.platforms = vec![reference];
    run(&mint, &store).map_err(|refusal| {
        assert_eq!(refusal.step, Step::PlatformSoftware);
        refusal.code
    })
}

#[test]
fn a_platform_that_is_as_expected_is_accepted_and_policies_see_by_which_reference() {
    let appraisal = with(|_| ()).unwrap();
    assert_eq!(serde_json::to_value(&appraisal.claims).unwrap()["platform"]["reference"]["name"], "firmware");
    assert_eq!(appraisal.tcb_status["cca.platform.reference"]["provenance"]["source"], "vendor");
}

#[test]
fn nothing_is_demanded_of_platforms_that_no_reference_is_about() {
    let unchecked = run(&mint(), &mint().registered()).unwrap();
    assert!(serde_json::to_value(&unchecked.claims).unwrap()["platform"]["reference"].is_null());
    let other = with(|reference| {
        reference.expected.implementation_id = [8; 32];
        reference.expected.components.clear();
    });
    assert!(serde_json::to_value(&other.unwrap().claims).unwrap()["platform"]["reference"].is_null());
    let mut instance = mint().platform.instance_id;
    instance[32] ^= 1;
    let other = with(|reference| {
        reference.expected.instance_id = Some(instance);
        reference.expected.components.clear();
    });
    assert!(serde_json::to_value(&other.unwrap().claims).unwrap()["platform"]["reference"].is_null());
    let own = mint().platform.instance_id;
    assert!(with(|reference| reference.expected.instance_id = Some(own)).is_ok());
    let own = with(|reference| {
        reference.expected.instance_id = Some(own);
        reference.expected.components.clear();
    });
    assert_eq!(own, Err(Code::ComponentNotAllowed));
}

#[test]
fn each_property_of_a_component_counts() {
    let changes: [fn(&mut ComponentEndorsement); 6] = [
        |form| form.component_type = Some("BL2".to_owned()),
        |form| form.version = Some("1.1".to_owned()),
        |form| form.measurements = vec![digest(0x99)],
        |form| form.measurements.clear(),
        |form| form.measurements = vec![HashAlgorithm::Sha512.digest(b"BL")],
        |form| form.signer_id = digest(0x99),
    ];
    for change in changes {
        let refused = with(|reference| change(&mut reference.expected.components[0]));
        assert_eq!(refused, Err(Code::ComponentNotAllowed));
    }
    let unnamed = with(|reference| {
        for form in &mut reference.expected.components {
            (form.component_type, form.version) = (None, None);
        }
    });
    assert!(unnamed.is_ok(), "what a reference does not name can be anything");
}

#[test]
fn a_component_does_not_pass_as_one_of_another_type() {
    let refused = with(|reference| {
        let [bl, rmm] = &mut reference.expected.components[..] else { panic!("two components") };
        std::mem::swap(&mut bl.component_type, &mut rmm.component_type);
        (bl.version, rmm.version) = (None, None);
    });
    assert_eq!(refused, Err(Code::ComponentNotAllowed));
}

#[test]
fn a_component_may_come_in_one_of_several_forms_and_must_come() {
    let older = ComponentEndorsement {
        component_type: Some("BL".to_owned()),
        version: Some("0.9".to_owned()),
        measurements: vec![digest(0x44)],
        signer_id: digest(0x32),
    };
    assert!(with(|reference| reference.expected.components.push(older.clone())).is_ok());
    let missing = ComponentEndorsement { component_type: Some("EL3".to_owned()), ..older.clone() };
    let refused = with(|reference| reference.expected.components.push(missing));
    assert_eq!(refused, Err(Code::ComponentNotAllowed));
    let missing = ComponentEndorsement { component_type: None, ..older };
    let refused = with(|reference| reference.expected.components.push(missing));
    assert_eq!(refused, Err(Code::ComponentNotAllowed));
}

#[test]
fn bits_of_the_configuration_count_where_the_mask_says_so() {
    let value = |value: &[u8], mask: &[u8]| {
        with(|reference| {
            reference.expected.configuration = MaskedValue { value: value.to_vec(), mask: mask.to_vec() };
        })
        .map(drop)
    };
    assert_eq!(value(&[1, 2, 3], &[0xff; 3]), Ok(()));
    assert_eq!(value(&[1, 2, 0xf3], &[0xff, 0xff, 0x0f]), Ok(()));
    for (bytes, mask) in
        [(&[1, 2, 0xf3][..], &[0xff; 3][..]), (&[1, 2], &[0xff; 2]), (&[1, 2, 3, 0], &[0xff; 4]), (&[], &[])]
    {
        assert_eq!(value(bytes, mask), Err(Code::PlatformConfigNotAllowed), "{bytes:?}");
    }
}

#[test]
fn one_match_among_several_references_is_enough_and_an_expired_one_is_none() {
    assert_eq!(with(|reference| reference.expires_at = Some(NOW)), Err(Code::ComponentNotAllowed));
    assert!(with(|reference| reference.expires_at = Some(NOW + 1)).is_ok());
    let mint = mint();
    let mut other = matching(&mint);
    other.expected.components.truncate(1);
    let mut store = mint.registered();
    store.platforms = vec![other, matching(&mint)];
    assert!(run(&mint, &store).is_ok());
}

#[test]
fn a_store_that_cannot_be_read_refuses() {
    struct NoPlatforms(Registered);
    impl verifier::ReferenceValues for NoPlatforms {
        fn realm(&self, rim: &Digest) -> Result<Vec<verifier::RealmReference>, verifier::StoreError> {
            self.0.realm(rim)
        }
        fn platforms(&self, _: &[u8; 32]) -> Result<Vec<PlatformReference>, verifier::StoreError> {
            Err(verifier::StoreError)
        }
    }
    let mint = mint();
    let store = mint.registered();
    let references = NoPlatforms(store.clone());
    let policy = AppraisalPolicy::new("default_cca.rego", DEFAULT_CCA_POLICY, Vec::new()).unwrap();
    let policies = [policy];
    let context = Context { references: &references, ..store.context(&policies) };
    let refusal = appraise(&mint.evidence(), &CHALLENGE, &context).unwrap_err();
    assert_eq!((refusal.step, refusal.code), (Step::PlatformSoftware, Code::StoreUnavailable));
}
