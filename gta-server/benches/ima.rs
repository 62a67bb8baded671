//! What the list of a machine costs that has used 100,000 files: its first attestation, and one with a hundred new
//! entries; beside it the bare hashing that no verifier can do without. Through the handlers with their database (SQLite),
//! without TCP and TLS. `cargo bench -p gta-server --bench ima`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is a test")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use gta_server::service::Settings;
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

/// Attests what the machine's list has from `first` on; gives how long the server took.
async fn attest(world: &World, machine: &Machine, first: usize) -> Duration {
    let registers: Vec<u32> = (0..=10).collect();
    let nonce = world.agent.nonce(&world.instance, Some(&machine.name)).await;
    let mut evidence = machine.evidence("tpm_ima", &registers, &qualifying(&nonce, None));
    evidence["evidence"]["logs"][0]["first_entry"] = json!(first);
    let request = json!({ "measurements": [machine.measurement(&nonce, &[evidence])] }).to_string();
    let begin = Instant::now();
    let answer = world.agent.post_text(&world.instance, "/attest", request).await.ok();
    let took = begin.elapsed();
    assert_eq!(answer["tokens"][0]["attestation_status"], "pass", "{answer}");
    took
}

/// The least work with which the register can be known.
fn hashing(files: usize) -> Duration {
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let entries: Vec<Vec<u8>> = (0..files)
        .map(|index| {
            let (path, digest) = file(index);
            let digest = field(&[&b"sha256:\0"[..], &digest].concat());
            [digest, field(&[path.as_bytes(), b"\0"].concat())].concat()
        })
        .collect();
    let begin = Instant::now();
    let mut register = [0; 32];
    for data in &entries {
        let mut extend = Sha256::new();
        extend.update(register);
        extend.update(Sha256::digest(black_box(data)));
        register = extend.finalize().into();
    }
    black_box(register);
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
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
    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        whole.push(attest(&world, &busy, 0).await);
        bare.push(hashing(FILES));
    }
    let (whole, bare) = (median(whole), median(bare));
    println!(
        "{FILES} entries: attested in {whole:.1} ms, bare hashing {bare:.1} ms, ratio {:.2}",
        whole / bare
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
    println!("{NEW} new entries of a list of {FILES}: attested in {:.2} ms", median(parts));
}
