//! `kill -9` in the middle of writes and of rotations of keys, with two instances on one database: what was acknowledged is
//! there afterwards, what was not is there wholly or not at all.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod pair;
#[path = "../process/mod.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;
mod tenant;

use std::ops::Range;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rcgen::PKCS_ECDSA_P384_SHA384;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use verifier::testing::Authority;

use crate::pair::{Client, Pair};
use crate::support::Database;
use crate::tenant::Tenant;

/// Not used by these tests, which name theirs.
const DATABASE: Database = Database::Sqlite;

/// Those who write at the same time.
const TENANTS: u64 = 4;
/// How often both instances are killed, and all is looked at.
const STAGES: usize = 2;
/// How often, in each of these, one is killed while the other goes on.
const KILLS: usize = 5;
/// How much is acknowledged between that and the other's being started again, and until the next kill.
const PROGRESS: Range<usize> = 3..20;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What keys are for.
const PURPOSES: [&str; 3] = ["row", "nonce", "token"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_loses_nothing_acknowledged_when_instances_are_killed() {
    survives(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_loses_nothing_acknowledged_when_instances_are_killed() {
    survives(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_loses_nothing_acknowledged_when_instances_are_killed() {
    survives(Database::Mariadb).await;
}

async fn survives(database: Database) {
    // Moments are never the same twice: the seed repeats what is done, and about when.
    let seed = std::env::var("REDOUBT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    println!("REDOUBT_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let pair = Arc::new(Pair::new(database));
    let maker = Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let tenant =
        |number| Tenant::new(&pair, format!("t{number}"), &maker, random.random(), Arc::clone(&acknowledged));
    let mut tenants: Vec<Tenant> = (0..TENANTS).map(tenant).collect();
    let mut anybody = Client::new(pair.run(&["add-key", "t0", "auditor"]));
    let mut heads = json!([]);
    for _ in 0..STAGES {
        both(&pair, Pair::start).await;
        let stop = Arc::new(AtomicBool::new(false));
        let rotations = tokio::spawn(rotate(Arc::clone(&pair), Arc::clone(&stop), random.random()));
        let mut writers = JoinSet::new();
        for tenant in tenants.drain(..) {
            let pair = Arc::clone(&pair);
            writers.spawn(async move { tenant.write(&pair).await });
        }
        for _ in 0..KILLS {
            progress(&acknowledged, &mut random).await;
            let one = random.random_range(0..2);
            on(&pair, move |pair| pair.kill(one)).await;
            progress(&acknowledged, &mut random).await;
            on(&pair, move |pair| pair.start(one)).await;
        }
        progress(&acknowledged, &mut random).await;
        both(&pair, Pair::kill).await;
        tenants = writers.join_all().await;
        stop.store(true, Ordering::Relaxed);
        let token_keys = rotations.await.unwrap();
        both(&pair, Pair::start).await;
        for tenant in &mut tenants {
            tenant.check(&pair).await;
        }
        let published = anybody.get(&pair, 1, "/jwks").await;
        for key in &token_keys {
            let is_published = published["keys"].as_array().unwrap().iter().any(|other| other["kid"] == *key);
            assert!(is_published, "{key} is lost");
        }
        heads = pair.fsck(&heads);
        both(&pair, Pair::kill).await;
    }
}

/// Waits until more is acknowledged, and a moment.
async fn progress(acknowledged: &AtomicUsize, random: &mut StdRng) {
    let enough = acknowledged.load(Ordering::Relaxed) + random.random_range(PROGRESS);
    let more = async {
        while acknowledged.load(Ordering::Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, more).await.expect("what still runs goes on");
    tokio::time::sleep(Duration::from_micros(random.random_range(0..10_000))).await;
}

/// Does what blocks.
async fn on(pair: &Arc<Pair>, act: impl FnOnce(&Pair) + Send + 'static) {
    let pair = Arc::clone(pair);
    tokio::task::spawn_blocking(move || act(&pair)).await.unwrap();
}

async fn both(pair: &Arc<Pair>, act: fn(&Pair, usize)) {
    tokio::join!(on(pair, move |pair| act(pair, 0)), on(pair, move |pair| act(pair, 1)));
}

/// Rotates keys in other processes, half of which are killed; gives the token keys that were acknowledged.
async fn rotate(pair: Arc<Pair>, stop: Arc<AtomicBool>, seed: u64) -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut token_keys = Vec::new();
    let mut takes = PATIENCE;
    while !stop.load(Ordering::Relaxed) || token_keys.is_empty() {
        let purpose = PURPOSES[random.random_range(0..PURPOSES.len())];
        let mut command = tokio::process::Command::from(pair.command(&["rotate", purpose]));
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let begun = Instant::now();
        let rotation = command.spawn().unwrap().wait_with_output();
        let deadline = if random.random_bool(0.5) { takes.mul_f64(random.random()) } else { PATIENCE };
        // Dropped after that, the process is killed.
        let Ok(output) = tokio::time::timeout(deadline, rotation).await else { continue };
        takes = begun.elapsed();
        let key = process::printed(&output.unwrap())["key"].clone();
        if purpose == "token" {
            token_keys.push(key);
        }
    }
    token_keys
}
