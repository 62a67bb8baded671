//! Full appraisals of P-384 tokens per second, with the two bare signature verifications beside them: the limit that no
//! verifier with these signatures can pass. `cargo bench -p verifier` prints the ratio last.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark is a test")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use evidence::cca::CcaToken;
use verifier::testing::Mint;
use verifier::{AppraisalPolicy, AwsLc, DEFAULT_CCA_POLICY, SignatureVerifier as _, appraise};

const CHALLENGE: [u8; 64] = [0x5a; 64];

fn main() {
    let mint = Mint::new(CHALLENGE);
    let mut store = mint.registered();
    let platform_key = store.anchor().key.sec1_point().to_vec();
    let evidence = mint.evidence();
    let policies =
        [AppraisalPolicy::new("default_cca.rego", DEFAULT_CCA_POLICY, Vec::new()).expect("compiles")];
    let context = store.context(&policies);
    let appraisal = || appraise(black_box(&evidence), &CHALLENGE, &context).expect("accepted");

    let token = CcaToken::decode(&mint.token()).expect("decodes");
    let signatures = || {
        let (platform, realm) = (&token.platform, &token.realm);
        let realm_key = realm.claims.rak.sec1_point();
        AwsLc
            .verify(
                platform.algorithm,
                black_box(&platform_key),
                platform.to_be_signed(),
                platform.signature(),
            )
            .and_then(|()| {
                AwsLc.verify(realm.algorithm, black_box(realm_key), realm.to_be_signed(), realm.signature())
            })
            .expect("verifies");
    };

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("verify");
    group.throughput(Throughput::Elements(1));
    group.bench_function("token", |bencher| bencher.iter(appraisal));
    group.bench_function("two_signatures", |bencher| bencher.iter(signatures));
    group.finish();
    criterion.final_summary();

    // Alternating rounds, so that a machine that changes its speed changes it for both.
    let (mut full, mut bare) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..20 {
        full += time(|| drop(appraisal()));
        bare += time(signatures);
    }
    let per_second = |time: Duration| 20.0 * f64::from(ROUND) / time.as_secs_f64();
    let (full, bare) = (per_second(full), per_second(bare));
    println!("tokens/s {full:.0}, signature limit {bare:.0} tokens/s, ratio {:.3}", full / bare);
}

const ROUND: u32 = 50;

fn time(run: impl Fn()) -> Duration {
    let started = Instant::now();
    for _ in 0..ROUND {
        run();
    }
    started.elapsed()
}
