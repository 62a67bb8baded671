//! Many guests at once, honest and not, on two replicas.

use std::collections::BTreeMap;

use attestation_service::service::Settings;
use attestation_service::token::TokenSettings;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::mint::{Mint, digest, key};
use crate::support::{Home, Instance, SETTINGS};

const GUESTS: usize = 1000;

/// What a guest does wrong, and what it must be told.
const KINDS: [(&str, u16); 5] = [
    ("honest", 200),
    ("another Realm", 403),
    ("a nonce of its own", 403),
    ("another platform key", 403),
    ("a challenge that was used", 409),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_guests_at_once_every_honest_one_is_accepted_and_no_other() {
    let home = Home::new();
    let settings = Settings { max_challenges: 10_000, ..SETTINGS };
    let first = Instance::open_with(&home, settings, TokenSettings::default()).await;
    let second = Instance::open_with(&home, settings, TokenSettings::default()).await;
    first.register(&Mint::new([0; 64])).await;

    let mut guests = JoinSet::new();
    for number in 0..GUESTS {
        let (near, far) = if number % 2 == 0 { (&first, &second) } else { (&second, &first) };
        guests.spawn(guest(number % KINDS.len(), near.clone(), far.clone()));
    }
    let mut told: BTreeMap<(&str, u16), usize> = BTreeMap::new();
    for answer in guests.join_all().await {
        *told.entry(answer).or_default() += 1;
    }
    let expected = KINDS.map(|kind| (kind, GUESTS / KINDS.len()));
    assert_eq!(told, BTreeMap::from(expected));
}

/// A guest that is told to try again later does so, from the beginning.
async fn guest(kind: usize, near: Instance, far: Instance) -> (&'static str, u16) {
    loop {
        if let Some(status) = attempt(kind, &near, &far).await {
            return (KINDS[kind].0, status);
        }
    }
}

async fn attempt(kind: usize, near: &Instance, far: &Instance) -> Option<u16> {
    let challenge = near.try_challenge(&[]).await?;
    let mut mint = Mint::new(challenge.attested());
    match KINDS[kind].0 {
        "another Realm" => mint.realm.rim = digest(0x12),
        "a nonce of its own" => mint.realm.challenge[0] ^= 1,
        "another platform key" => mint.cpak = key(9),
        "a challenge that was used" => {
            let used = near.attest(&challenge, &mint, json!({})).await;
            if used.is_overload() {
                return None;
            }
            assert_eq!(used.status.as_u16(), 200, "{}", used.text());
        }
        _ => {}
    }
    let answer = far.attest(&challenge, &mint, json!({})).await;
    (!answer.is_overload()).then_some(answer.status.as_u16())
}
