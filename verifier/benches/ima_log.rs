//! Appraisal of an IMA log of 100,000 files (some 10 MB), and the bare hashing beside it that no verifier can do without: the
//! template data of each entry, and the extension of its register. `cargo bench -p verifier --bench ima_log` prints the ratio
//! last.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark is a test")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use evidence::hash::{Digest, HashAlgorithm};
use evidence::ima::{FileDigest, LogWriter, Template};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use verifier::logs::{self, ImaReferences, LogReferences, LogRules};

const FILES: usize = 100_000;
/// Has no common divisor with the number of files.
const STRIDE: usize = 7919;
const ROUNDS: u32 = 10;

/// A guest that has used many files, all of them known.
struct Busy {
    log: Vec<u8>,
    /// What is hashed for each entry.
    data: Vec<Vec<u8>>,
    references: LogReferences,
}

impl Busy {
    fn new() -> Self {
        let mut log = LogWriter::default();
        let mut data = Vec::with_capacity(FILES);
        let mut ima = ImaReferences::default();
        // In another order than the references', which are kept by path.
        for index in (0..FILES).map(|index| index * STRIDE % FILES) {
            let path = format!("/usr/lib/x/lib{index:06}.so");
            let digest = Sha256::digest(path.as_bytes());
            let file = FileDigest { verity: false, algorithm: "sha256", value: &digest };
            log.measure(4, Template::ImaNg, file, path.as_bytes(), &[]);
            let field =
                |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
            let digest = field(&[&b"sha256:\0"[..], &digest].concat());
            data.push([digest, field(&[path.as_bytes(), b"\0"].concat())].concat());
            ima.files.insert(&path, &file.to_string().parse().unwrap());
        }
        // As a service reads them.
        let ima = serde_json::from_str(&serde_json::to_string(&ima).unwrap()).unwrap();
        let references = LogReferences { ima: Some(ima), ..LogReferences::default() };
        Self { log: log.finish(), data, references }
    }

    /// The least work with which the register can be known.
    fn hash(&self) -> [u8; 32] {
        let mut register = [0; 32];
        for data in &self.data {
            let mut extend = Sha256::new();
            extend.update(register);
            extend.update(Sha256::digest(black_box(data)));
            register = extend.finalize().into();
        }
        register
    }

    fn appraise(&self, rems: &[Digest; 4], rules: &LogRules) -> usize {
        let logs = logs::attest(None, Some(black_box(&self.log)), HashAlgorithm::Sha256, rems).unwrap();
        let report = logs.judge(Some(&self.references), [false; 4], rules).unwrap();
        report.ima.expect("judged").files
    }
}

fn main() {
    let busy = Busy::new();
    let mut rems = [Digest::zero(HashAlgorithm::Sha256); 4];
    rems[3] = Digest::from_slice(&busy.hash()).unwrap();
    let mut rules = LogRules::default();
    rules.ima.required = true;
    assert_eq!(busy.appraise(&rems, &rules), FILES);

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("ima_log");
    group.sample_size(10).throughput(Throughput::Bytes(u64::try_from(busy.log.len()).unwrap()));
    group.bench_function("appraise", |bencher| bencher.iter(|| busy.appraise(&rems, &rules)));
    group.bench_function("hash", |bencher| bencher.iter(|| busy.hash()));
    group.finish();
    criterion.final_summary();

    // Alternating rounds of processor time, so that whatever else the machine does it does to both.
    let (mut full, mut bare) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        full += time(|| busy.appraise(&rems, &rules));
        bare += time(|| busy.hash());
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0 / f64::from(ROUNDS);
    let (size, ratio) = (busy.log.len(), full.as_secs_f64() / bare.as_secs_f64());
    let (full, bare) = (milliseconds(full), milliseconds(bare));
    println!(
        "{FILES} entries, {size} bytes: appraised in {full:.1} ms, bare hashing {bare:.1} ms, ratio {ratio:.3}"
    );
}

/// Processor time of this thread.
fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("after the start");
    let started = now();
    black_box(run());
    now() - started
}
