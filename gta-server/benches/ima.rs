//! What the list of a machine costs that has used 100,000 files: its first attestation, and one with a hundred new
//! entries; beside it the bare hashing that no verifier can do without, on one core and by whichever library of the
//! workspace is faster. Through the handlers with their database (SQLite), without TCP and TLS. Ratios are of time on the
//! clock, and of processor time, which tells what the second core has done. `cargo bench -p gta-server --bench ima`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is a test")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use gta_server::service::Settings;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Database, Machine, Signer, World, qualifying};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DATABASE: Database = Database::Sqlite;

const FILES: usize = 100_000;
/// Files in one set of reference values: a request has a bound.
const SET: usize = 25_000;
/// Entries that come with an incremental report.
const NEW: usize = 100;
const ROUNDS: u32 = 10;

fn file(index: usize) -> (String, [u8; 32]) {
    let path = format!("/usr/lib/x/lib{index:06}.so");
    let digest = Sha256::digest(path.as_bytes()).into();
    (path, digest)
}

async fn register(world: &World) {
    let signer = Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let numbers: Vec<usize> = (0..FILES + NEW * ROUNDS as usize).collect();
    for (number, set) in numbers.chunks(SET).enumerate() {
        let files: Vec<Value> = set
            .iter()
            .map(|index| {
                let (path, digest) = file(*index);
                json!({ "fileName": path, "sha256": hex::encode(digest) })
            })
            .collect();
        let content = signer.sign(&json!({ "referenceValues": files }));
        let values =
            json!({ "name": format!("set {number}"), "attester_type": "tpm_ima", "content": content });
        world.admin.post(&world.instance, "/ref_value", &values).await.ok();
    }
}

/// How long something took.
#[derive(Clone, Copy)]
struct Took {
    clock: Duration,
    /// Of all cores together.
    processor: Duration,
}

struct Start(Instant, Duration);

impl Start {
    fn now() -> Self {
        Self(Instant::now(), processor_time())
    }

    fn took(&self) -> Took {
        Took { clock: self.0.elapsed(), processor: processor_time() - self.1 }
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().expect("after the start")
}

/// Attests what the machine's list has from `first` on; gives how long the server took.
async fn attest(world: &World, machine: &Machine, first: usize) -> Took {
    let registers: Vec<u32> = (0..=10).collect();
    let nonce = world.agent.nonce(&world.instance, Some(&machine.name)).await;
    let mut evidence = machine.evidence("tpm_ima", &registers, &qualifying(&nonce, None));
    evidence["evidence"]["logs"][0]["first_entry"] = json!(first);
    let request = json!({ "measurements": [machine.measurement(&nonce, &[evidence])] }).to_string();
    let start = Start::now();
    let answer = world.agent.post_text(&world.instance, "/attest", request).await.ok();
    let took = start.took();
    assert_eq!(answer["tokens"][0]["attestation_status"], "pass", "{answer}");
    took
}

/// What is hashed for each entry.
fn template_data(files: usize) -> Vec<Vec<u8>> {
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let entry = |index| {
        let (path, digest) = file(index);
        let digest = field(&[&b"sha256:\0"[..], &digest].concat());
        [digest, field(&[path.as_bytes(), b"\0"].concat())].concat()
    };
    (0..files).map(entry).collect()
}

/// The least work with which the register can be known: each entry's digest, and the register's value after it.
fn hashing(entries: &[Vec<u8>], digest: impl Fn(&[u8]) -> [u8; 32]) -> Took {
    let start = Start::now();
    let mut register = [0; 64];
    for data in entries {
        register[32..].copy_from_slice(&digest(black_box(data)));
        let value = digest(&register);
        register[..32].copy_from_slice(&value);
    }
    black_box(register);
    start.took()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// In milliseconds, on the clock and of processors.
fn medians(times: &[Took]) -> (f64, f64) {
    (
        median(times.iter().map(|took| took.clock).collect()),
        median(times.iter().map(|took| took.processor).collect()),
    )
}

#[tokio::main]
async fn main() {
    let world = World::on(DATABASE, Settings::default()).await;
    register(&world).await;
    let mut busy = Machine::new("busy", &world.maker);
    for index in 0..FILES {
        let (path, digest) = file(index);
        busy.measure(&path, &digest);
    }
    busy.enrol(&world).await.ok();
    // The whole list is accepted from its start at any time; the first time makes the table of known files.
    attest(&world, &busy, 0).await;
    let entries = template_data(FILES);
    let (mut whole, mut sha2, mut aws_lc) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        whole.push(attest(&world, &busy, 0).await);
        sha2.push(hashing(&entries, |data| Sha256::digest(data).into()));
        aws_lc.push(hashing(&entries, |data| digest(&SHA256, data).as_ref().try_into().unwrap()));
    }
    let (whole, sha2, aws_lc) = (medians(&whole), medians(&sha2), medians(&aws_lc));
    let bare = if sha2.0 < aws_lc.0 { sha2 } else { aws_lc };
    println!(
        "{FILES} entries: attested in {:.1} ms ({:.1} ms of processors); bare hashing {:.1} ms with sha2, {:.1} ms with aws-lc; \
         ratio {:.2} ({:.2} of processors)",
        whole.0,
        whole.1,
        sha2.0,
        aws_lc.0,
        whole.0 / bare.0,
        whole.1 / bare.1
    );
    let mut parts = Vec::new();
    let mut known = FILES + 1;
    for _ in 0..ROUNDS {
        busy.files = evidence::ima::LogWriter::default();
        for _ in 0..NEW {
            let (path, digest) = file(known - 1);
            busy.measure(&path, &digest);
            known += 1;
        }
        parts.push(attest(&world, &busy, known - NEW).await);
    }
    println!("{NEW} new entries of a list of {FILES}: attested in {:.2} ms", medians(&parts).0);
}
