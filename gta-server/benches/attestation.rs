//! What an attestation costs: nonce and evidence through the handlers with their database (every write to disk), without
//! TCP and TLS. `cargo bench -p gta-server --bench attestation [-- sqlite|postgres]`.
//!
//! The evidence is a quote over 24 registers by an ECDSA P-256 key with a boot log of 100 events. Quotes are made between
//! the two halves, outside of what is measured: a TPM's signature is not the server's work. First as many as the machine
//! can answer; then half as many a second, at times that do not wait for answers, so that a server that falls behind is
//! seen to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is a test")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evidence::bank::Bank;
use evidence::tcg::EventType;
use gta_server::service::Settings;
use serde_json::json;
use support::{Database, Machine, World, qualifying};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DATABASE: Database = Database::Sqlite;

const NODES: usize = 100;
/// Attestations whose nonces wait at once.
const ROUND: usize = 1000;
const ROUNDS: usize = 5;
const CLIENTS: usize = 32;
const EVENTS: usize = 100;

/// A machine whose boot has as many events as are wanted.
async fn machine(world: &World, number: usize) -> Machine {
    let mut machine = Machine::new(&format!("node-{number}"), &world.maker);
    while machine.boot.events.len() < EVENTS {
        let content = format!("module {}", machine.boot.events.len());
        machine.boot.measure(9, EventType::IPL, content.as_bytes(), content.clone().into_bytes());
        let event = machine.boot.events.last().unwrap();
        machine.tpm.extend(event.register, event.digest(Bank::Sha256).unwrap());
    }
    machine.enrol(world).await.ok();
    machine
}

/// Runs `work` for every number by [`CLIENTS`] at once; gives how long all took, and each with its result.
async fn all<T, F>(count: usize, work: impl Fn(usize) -> F + Clone + Send + 'static) -> (Duration, Vec<T>)
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (work, next) = (work.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut results = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return results;
                    }
                    results.push((number, work(number).await));
                }
            })
        })
        .collect();
    let mut results = Vec::with_capacity(count);
    for client in clients {
        results.extend(client.await.unwrap());
    }
    let took = begin.elapsed();
    results.sort_by_key(|(number, _)| *number);
    (took, results.into_iter().map(|(_, result)| result).collect())
}

async fn challenge(world: &World, node: &Machine) -> String {
    world.agent.nonce(&world.instance, Some(&node.name)).await
}

async fn attest(world: &World, request: String) {
    let answer = world.agent.post_text(&world.instance, "/attest", request).await.ok();
    assert_eq!(answer["tokens"][0]["attestation_status"], "pass", "{answer}");
}

/// A nonce for each attestation, and the quote that answers it; gives how long the nonces took.
async fn prepared(world: &Arc<World>, nodes: &Arc<Vec<Machine>>, count: usize) -> (Duration, Vec<String>) {
    let (asking, asked) = (Arc::clone(world), Arc::clone(nodes));
    let nonces = move |number: usize| {
        let (world, nodes) = (Arc::clone(&asking), Arc::clone(&asked));
        async move { challenge(&world, &nodes[number % NODES]).await }
    };
    let (took, nonces) = all(count, nonces).await;
    let registers: Vec<u32> = (0..24).collect();
    let answers = nonces.iter().enumerate().map(|(number, nonce)| {
        let node = &nodes[number % NODES];
        let evidence = node.evidence("tpm_boot", &registers, &qualifying(nonce, None));
        json!({ "measurements": [node.measurement(nonce, &[evidence])] }).to_string()
    });
    (took, answers.collect())
}

/// Attests as many as are in a round; gives how long nonces and evidence took.
async fn round(world: &Arc<World>, nodes: &Arc<Vec<Machine>>) -> (Duration, Duration) {
    let (asking, answers) = prepared(world, nodes, ROUND).await;
    let (judge, answers) = (Arc::clone(world), Arc::new(answers));
    let work = move |number: usize| {
        let (world, answers) = (Arc::clone(&judge), Arc::clone(&answers));
        async move { attest(&world, answers[number].clone()).await }
    };
    let (attesting, _) = all(ROUND, work).await;
    (asking, attesting)
}

async fn measure(database: Database) {
    let settings = Settings { nonce_lifetime: 3600, ..Settings::default() };
    let world = Arc::new(World::on(database, settings).await);
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(machine(&world, number).await);
    }
    let nodes = Arc::new(nodes);
    let cores = std::thread::available_parallelism().unwrap().get();
    // The first round loads keys and compiles policies.
    round(&world, &nodes).await;
    let (mut asking, mut attesting) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let (asked, attested) = round(&world, &nodes).await;
        asking += asked;
        attesting += attested;
    }
    let rate = |took: Duration| (ROUNDS * ROUND) as f64 / took.as_secs_f64();
    let most = rate(asking + attesting);
    println!(
        "{database:?}: {most:.0} attestations/s on {cores} cores (nonces {:.0}/s, evidence {:.0}/s)",
        rate(asking),
        rate(attesting),
    );
    let (_, answers) = prepared(&world, &nodes, ROUND).await;
    let begin = tokio::time::Instant::now();
    let mut running = Vec::with_capacity(answers.len());
    for (number, answer) in answers.into_iter().enumerate() {
        let due = begin + Duration::from_secs_f64(number as f64 / (most / 2.0));
        tokio::time::sleep_until(due).await;
        let world = Arc::clone(&world);
        running.push(tokio::spawn(async move {
            attest(&world, answer).await;
            due.elapsed()
        }));
    }
    let mut latencies = Vec::with_capacity(running.len());
    for attestation in running {
        latencies.push(attestation.await.unwrap());
    }
    latencies.sort_unstable();
    let part = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
    println!(
        "{database:?}: at half of that, latency of POST /attest p50 {:.2?}, p90 {:.2?}, p99 {:.2?}, most {:.2?}",
        part(50),
        part(90),
        part(99),
        part(100)
    );
}

#[tokio::main]
async fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    for database in [Database::Sqlite, Database::Postgres] {
        if wanted.as_ref().is_none_or(|wanted| format!("{database:?}").eq_ignore_ascii_case(wanted)) {
            measure(database).await;
        }
    }
}
