//! Full appraisals per second on one core, each with the bare signature verifications that it cannot do without beside it:
//! the limit that no verifier with these signatures can pass. `cargo bench -p verifier` prints the ratios last.
//!
//! - `cca`: a platform token and a Realm token, both P-384.
//! - `virtcca_warm`: a CVM token on P-521; the certificate chain and the Platform Token were verified before, as those of a
//!   platform are until it starts anew.
//! - `virtcca_cold`: nothing was verified before: two certificates, the Platform Token and the CVM token, all P-521.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark is a test")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use evidence::cca::CcaToken;
use evidence::envelope::Evidence;
use evidence::token::{SignatureAlgorithm, Signed};
use evidence::virtcca::VirtccaToken;
use verifier::testing::{Mint, Registered, VirtccaMint};
use verifier::{
    AppraisalPolicy, AwsLc, DEFAULT_CCA_POLICY, DEFAULT_VIRTCCA_POLICY, SignatureVerifier as _, appraise,
};

const CHALLENGE: [u8; 64] = [0x5a; 64];

/// A signature with what it takes to verify it.
struct Signature {
    algorithm: SignatureAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Signature {
    fn verify(&self) {
        let Self { algorithm, key, message, signature } = self;
        AwsLc.verify(*algorithm, black_box(key), message, signature).expect("verifies");
    }
}

/// One kind of appraisal, and the signatures that it verifies.
struct Case {
    name: &'static str,
    evidence: Evidence,
    policies: [AppraisalPolicy; 1],
    /// What an appraisal finds; what it leaves there is found by the next one, unless this makes it anew.
    store: Box<dyn Fn() -> Registered>,
    signatures: Vec<Signature>,
}

impl Case {
    fn appraise(&self, store: &Registered) {
        appraise(black_box(&self.evidence), &CHALLENGE, &store.context(&self.policies)).expect("accepted");
    }

    fn limit(&self) {
        self.signatures.iter().for_each(Signature::verify);
    }
}

fn policies(rego: &str) -> [AppraisalPolicy; 1] {
    [AppraisalPolicy::new("default.rego", rego, Vec::new()).expect("compiles")]
}

fn signature<C>(key: &[u8], signed: &Signed<C>) -> Signature {
    Signature {
        algorithm: signed.algorithm,
        key: key.to_vec(),
        message: signed.to_be_signed().to_vec(),
        signature: signed.signature().to_vec(),
    }
}

fn cca() -> Case {
    let mint = Mint::new(CHALLENGE);
    let mut store = mint.registered();
    let token = CcaToken::decode(&mint.token()).expect("decodes");
    let signatures = vec![
        signature(store.anchor().key.sec1_point(), &token.platform),
        signature(token.realm.claims.rak.sec1_point(), &token.realm),
    ];
    let (evidence, policies) = (mint.evidence(), policies(DEFAULT_CCA_POLICY));
    Case { name: "cca", evidence, policies, store: Box::new(move || store.clone()), signatures }
}

fn virtcca_warm() -> Case {
    let mint = VirtccaMint::new(CHALLENGE);
    let store = mint.registered();
    let token = VirtccaToken::decode(&mint.token()).expect("decodes");
    let signatures = vec![signature(token.cvm.claims.key.claim_bytes(), &token.cvm)];
    let (evidence, policies) = (mint.evidence(), policies(DEFAULT_VIRTCCA_POLICY));
    Case { name: "virtcca_warm", evidence, policies, store: Box::new(move || store.clone()), signatures }
}

fn virtcca_cold() -> Case {
    let mint = VirtccaMint::new(CHALLENGE);
    let token = VirtccaToken::decode(&mint.token()).expect("decodes");
    // Four signatures by four P-521 keys, which cost the same: the CVM token's stands for each.
    let signatures = (0..4).map(|_| signature(token.cvm.claims.key.claim_bytes(), &token.cvm)).collect();
    let (evidence, policies) = (mint.evidence(), policies(DEFAULT_VIRTCCA_POLICY));
    Case { name: "virtcca_cold", evidence, policies, store: Box::new(move || mint.registered()), signatures }
}

fn main() {
    let cases = [cca(), virtcca_warm(), virtcca_cold()];
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("verify");
    group.throughput(Throughput::Elements(1));
    for case in &cases {
        group.bench_function(case.name, |bencher| {
            bencher.iter_batched(&case.store, |store| case.appraise(&store), BatchSize::SmallInput);
        });
        group.bench_function(format!("{}_signatures", case.name), |bencher| bencher.iter(|| case.limit()));
    }
    group.finish();
    criterion.final_summary();

    for case in &cases {
        // Alternating rounds, so that a machine that changes its speed changes it for both.
        let (mut full, mut bare) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            let stores: Vec<Registered> = (0..ROUND).map(|_| (case.store)()).collect();
            full += time(|| stores.iter().for_each(|store| case.appraise(store)));
            bare += time(|| (0..ROUND).for_each(|_| case.limit()));
        }
        let per_second = |time: Duration| f64::from(ROUNDS * ROUND) / time.as_secs_f64();
        let (name, full, bare) = (case.name, per_second(full), per_second(bare));
        println!("{name}: {full:.0} appraisals/s, signature limit {bare:.0}/s, ratio {:.3}", full / bare);
    }
}

const ROUNDS: u32 = 20;
const ROUND: u32 = 50;

fn time(run: impl FnOnce()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}
