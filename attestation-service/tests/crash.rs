//! `kill -9` in the middle of writes: what was acknowledged is there afterwards, on both databases.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use hyper::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use support::mint::Mint;
use support::process::{Running, request};
use support::{Database, Home};
use tokio::task::JoinSet;

/// Not used by these tests, which name theirs.
const DATABASE: Database = Database::Sqlite;

/// How long writes go on before the service is killed: long enough for some, and never at a quiet moment.
const WRITES: Duration = Duration::from_millis(1500);

/// What the service said had happened.
#[derive(Default)]
struct Acknowledged {
    references: Vec<String>,
    spent: Vec<(String, String)>,
    fresh: Vec<(String, String)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_loses_nothing_acknowledged_when_the_service_is_killed() {
    survives(Home::with(Database::Sqlite)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_loses_nothing_acknowledged_when_the_service_is_killed() {
    survives(Home::with(Database::Postgres)).await;
}

async fn survives(home: Home) {
    let mut running = Running::start(home);
    let mut all = Acknowledged::default();
    for round in 0..2 {
        let service = Arc::new(running);
        let mut writers = JoinSet::new();
        for writer in 0..3 {
            writers.spawn(write(Arc::clone(&service), format!("{round}-{writer}")));
        }
        tokio::time::sleep(WRITES).await;
        kill(&service);
        for acknowledged in writers.join_all().await {
            all.references.extend(acknowledged.references);
            all.spent.extend(acknowledged.spent);
            all.fresh.extend(acknowledged.fresh);
        }
        running = Arc::into_inner(service).unwrap().restart();
    }
    assert!(all.references.len() > 10 && all.spent.len() > 10, "too little was written to say anything");
    check(&running, &all).await;
}

fn kill(service: &Running) {
    let process = rustix::process::Pid::from_child(&service.child);
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}

/// Writes until the service answers no more.
async fn write(service: Arc<Running>, name: String) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    for number in 0.. {
        let reference = format!("n{name}-{number}");
        let body = json!({ "name": reference, "rim": "22".repeat(32) });
        match service.try_admin(request(Method::POST, "/references", &[], &body)).await {
            Some((answer, _)) if answer.status() == 201 => acknowledged.references.push(reference),
            _ => return acknowledged,
        }
        let Some(fresh) = challenge(&service).await else { return acknowledged };
        acknowledged.fresh.push(fresh);
        let Some(spent) = challenge(&service).await else { return acknowledged };
        match attest(&service, &spent).await {
            Some((403, _)) => acknowledged.spent.push(spent),
            _ => return acknowledged,
        }
    }
    acknowledged
}

async fn challenge(service: &Running) -> Option<(String, String)> {
    let (answer, text) = service.try_send(request(Method::GET, "/challenge", &[], &json!({}))).await?;
    let cookie = answer.headers().get(SET_COOKIE)?.to_str().unwrap().split(';').next().unwrap().to_owned();
    Some((serde_json::from_str(&text).ok()?, cookie))
}

/// Presents evidence that nobody trusts: the challenge is spent all the same.
async fn attest(service: &Running, (challenge, cookie): &(String, String)) -> Option<(u16, String)> {
    let evidence = URL_SAFE_NO_PAD.encode(Mint::new([0; 64]).evidence().to_json());
    let body = json!({ "challenge": challenge, "evidence": evidence });
    let request = request(Method::POST, "/attestation", &[(COOKIE, cookie.as_str())], &body);
    let (answer, text) = service.try_send(request).await?;
    let problem: Value = serde_json::from_str(&text).ok()?;
    Some((answer.status().as_u16(), problem["code"].as_str()?.to_owned()))
}

async fn check(service: &Running, all: &Acknowledged) {
    let (_, listed) = service.try_admin(request(Method::GET, "/references", &[], &json!({}))).await.unwrap();
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    for name in &all.references {
        assert!(listed.iter().any(|reference| reference["name"] == *name), "{name} is lost");
    }
    for spent in &all.spent {
        assert_eq!(attest(service, spent).await, Some((409, "challenge_used".to_owned())));
    }
    for fresh in &all.fresh {
        let (status, code) = attest(service, fresh).await.unwrap();
        assert_eq!(status, 403, "a challenge that was given out is lost: {code}");
    }
}
