//! Good evidence with one bit changed, for every byte of every token and certificate: nothing panics, and nothing is
//! accepted whose certificates are not the very same bytes.
//!
//! By default each byte is changed in one bit, which walks from byte to byte; with the feature `every-bit` in all eight.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a failed test panics")]

use evidence::envelope::{CcaEvidence, Evidence, VirtccaEvidence};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::sync::Arc;

use verifier::chain::TrustBundle;
use verifier::testing::{Mint, Registered, VirtccaMint};
use verifier::{AppraisalPolicy, DEFAULT_CCA_POLICY, DEFAULT_VIRTCCA_POLICY, Rules, VirtccaRules, appraise};

const CHALLENGE: [u8; 64] = [0x5a; 64];

/// Each mutant of `original` with the position of its change.
fn mutants(original: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let bits = if cfg!(feature = "every-bit") { 8 } else { 1 };
    (0..original.len()).flat_map(move |position| {
        (0..bits).map(move |bit| {
            let mut mutant = original.to_vec();
            mutant[position] ^= 1 << ((position + bit) % 8);
            (position, mutant)
        })
    })
}

/// Appraises every mutant of `original`, as `evidence` packs it, and returns those that were accepted.
fn survivors(
    name: &str,
    original: &[u8],
    store: &Registered,
    policies: &[AppraisalPolicy],
    evidence: impl Fn(Vec<u8>) -> Evidence,
) -> Vec<(usize, Vec<u8>)> {
    let context = store.context(policies);
    appraise(&evidence(original.to_vec()), &CHALLENGE, &context).expect("the original is accepted");
    let mut count = 0_u32;
    let mut accepted = Vec::new();
    for (position, mutant) in mutants(original) {
        count += 1;
        if appraise(&evidence(mutant.clone()), &CHALLENGE, &context).is_ok() {
            accepted.push((position, mutant));
        }
    }
    println!("{name}: {} bytes, {count} mutants, {} survivors", original.len(), accepted.len());
    accepted
}

#[track_caller]
fn none(survivors: &[(usize, Vec<u8>)]) {
    let positions: Vec<usize> = survivors.iter().map(|(position, _)| *position).collect();
    assert!(positions.is_empty(), "bytes that are not protected: {positions:?}");
}

/// A survivor must carry the same certificates: what changed is the line breaks, labels or base64 around them.
#[track_caller]
fn same_certificates(original: &[u8], survivors: &[(usize, Vec<u8>)]) {
    let certificates = |pem: &[u8]| -> Vec<Vec<u8>> {
        CertificateDer::pem_slice_iter(pem).map(|der| der.unwrap().to_vec()).collect()
    };
    for (position, mutant) in survivors {
        assert_eq!(certificates(mutant), certificates(original), "byte {position} is not protected");
    }
}

fn policy(rego: &str, rules: VirtccaRules) -> Vec<AppraisalPolicy> {
    let policy = AppraisalPolicy::new("test.rego", rego, Vec::new()).unwrap();
    vec![policy.with_rules(Rules { virtcca: rules, ..Rules::default() })]
}

#[test]
fn no_byte_of_a_cca_token_can_be_changed() {
    let mint = Mint::new(CHALLENGE);
    let policies = policy(DEFAULT_CCA_POLICY, VirtccaRules::default());
    none(&survivors("CCA token", &mint.token(), &mint.registered(), &policies, |token| {
        Evidence::Cca(CcaEvidence { token, ..CcaEvidence::default() })
    }));
}

#[test]
fn no_byte_of_a_virtcca_token_with_platform_token_can_be_changed() {
    let mint = VirtccaMint::new(CHALLENGE);
    let evidence = mint.virtcca_evidence();
    let policies = policy(DEFAULT_VIRTCCA_POLICY, VirtccaRules::default());
    none(&survivors(
        "virtCCA token with Platform Token",
        &evidence.token,
        &mint.registered(),
        &policies,
        |token| Evidence::Virtcca(VirtccaEvidence { token, ..evidence.clone() }),
    ));
}

#[test]
fn no_byte_of_the_certificates_with_a_platform_token_can_be_changed() {
    let mint = VirtccaMint::new(CHALLENGE);
    let mut evidence = mint.virtcca_evidence();
    evidence.device_certificate.extend(mint.sub.pem().into_bytes());
    let root = mint.root.pem();
    let mut store = mint.registered();
    store.bundle = Arc::new(TrustBundle::new([("root.pem", root.as_bytes())], []).unwrap());
    let policies = policy(DEFAULT_VIRTCCA_POLICY, VirtccaRules::default());
    let original = evidence.device_certificate.clone();
    let accepted =
        survivors("device and sub CA certificate in PEM", &original, &store, &policies, |certificates| {
            Evidence::Virtcca(VirtccaEvidence { device_certificate: certificates, ..evidence.clone() })
        });
    same_certificates(&original, &accepted);

    let der = CertificateDer::from_pem_slice(&original).unwrap();
    let store = mint.registered();
    none(&survivors("device certificate in DER", &der, &store, &policies, |device_certificate| {
        Evidence::Virtcca(VirtccaEvidence { device_certificate, ..evidence.clone() })
    }));
}

#[test]
fn no_byte_of_legacy_evidence_can_be_changed() {
    let mint = VirtccaMint::legacy(CHALLENGE);
    let evidence = mint.virtcca_evidence();
    let store = mint.registered();
    let rules = VirtccaRules { allow_legacy: true, ..VirtccaRules::default() };
    let policies = policy("package attestation\noutput := {\"allow\": true}", rules);
    none(&survivors("legacy virtCCA token", &evidence.token, &store, &policies, |token| {
        Evidence::Virtcca(VirtccaEvidence { token, ..evidence.clone() })
    }));
    none(&survivors(
        "legacy device certificate",
        &evidence.device_certificate,
        &store,
        &policies,
        |certificate| {
            Evidence::Virtcca(VirtccaEvidence { device_certificate: certificate, ..evidence.clone() })
        },
    ));
}
