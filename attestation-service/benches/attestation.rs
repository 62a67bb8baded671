//! How long `POST /attestation` takes: the handler with its database (SQLite, every write to disk), without TCP and TLS.
//! `cargo bench -p attestation-service --bench attestation`.
//!
//! First as many requests as the machine can answer, from twice as many clients as it has cores; then half as many a second,
//! at times that do not wait for answers. Latency counts from the moment at which a request was due, so that a service that
//! falls behind is seen to. Evidence is virtCCA's with a Platform Token; chain and Platform Token were verified before.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is a test")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use attestation_service::service::Settings;
use attestation_service::token::TokenSettings;
use axum::http::header::COOKIE;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use support::mint::VirtccaMint;
use support::{Challenge, Database, Home, Instance, request, send};

const DATABASE: Database = Database::Sqlite;

const REQUESTS: usize = 1000;

const SETTINGS: Settings = Settings { challenge_lifetime: 300, max_challenges: 100_000 };

/// What a guest sends, made before anything is measured: a guest's signature costs as much as the service's work.
struct Attempt {
    challenge: Challenge,
    body: Value,
}

async fn attempts(instance: &Instance, mint: &VirtccaMint) -> Vec<Attempt> {
    let mut attempts = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let challenge = instance.challenge(&[]).await;
        let mut mint = mint.clone();
        mint.cvm.challenge = challenge.attested();
        let evidence = URL_SAFE_NO_PAD.encode(mint.evidence().to_json());
        let body = json!({ "challenge": challenge.text, "evidence": evidence });
        attempts.push(Attempt { challenge, body });
    }
    attempts
}

async fn attest(instance: &Instance, attempt: &Attempt) {
    let mut request = request(Method::POST, "/attestation", &attempt.body);
    request.headers_mut().insert(COOKIE, attempt.challenge.cookie.parse().unwrap());
    let answer = send(&instance.public, request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

/// Requests per second that are answered if there are always some waiting.
async fn full(instance: &Instance, attempts: Vec<Attempt>, clients: usize) -> f64 {
    let (attempts, next) = (Arc::new(attempts), Arc::new(AtomicUsize::new(0)));
    let begin = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let (instance, attempts, next) = (instance.clone(), Arc::clone(&attempts), Arc::clone(&next));
            tokio::spawn(async move {
                while let Some(attempt) = attempts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    attest(&instance, attempt).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    attempts.len() as f64 / begin.elapsed().as_secs_f64()
}

/// Latencies at a given number of requests per second, shortest first.
async fn at_rate(instance: &Instance, attempts: Vec<Attempt>, rate: f64) -> Vec<Duration> {
    let begin = tokio::time::Instant::now();
    let mut running = Vec::with_capacity(attempts.len());
    for (number, attempt) in attempts.into_iter().enumerate() {
        let due = begin + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(due).await;
        let instance = instance.clone();
        running.push(tokio::spawn(async move {
            attest(&instance, &attempt).await;
            due.elapsed()
        }));
    }
    let mut latencies = Vec::with_capacity(running.len());
    for attempt in running {
        latencies.push(attempt.await.unwrap());
    }
    latencies.sort_unstable();
    latencies
}

#[tokio::main]
async fn main() {
    let home = Home::new();
    let instance = Instance::open_with(&home, SETTINGS, TokenSettings::default()).await;
    let mint = VirtccaMint::new([0; 64]);
    for (path, document) in [
        ("/trust-bundles", json!({ "name": "vendor", "pem": mint.root.pem() + &mint.sub.pem() })),
        ("/references", json!({ "name": "guest", "rim": mint.cvm.rim })),
    ] {
        let answer = instance.admin(Method::POST, path, &document).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    // The first time loads the signing key and the chain.
    full(&instance, attempts(&instance, &mint).await, 2 * cores).await;
    let most = full(&instance, attempts(&instance, &mint).await, 2 * cores).await;
    let latencies = at_rate(&instance, attempts(&instance, &mint).await, most / 2.0).await;
    let part = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
    println!(
        "POST /attestation: {most:.0}/s on {cores} cores; at half of that, latency p50 {:.2?}, p90 {:.2?}, p99 {:.2?}, \
         most {:.2?}",
        part(50),
        part(90),
        part(99),
        part(100)
    );
}
