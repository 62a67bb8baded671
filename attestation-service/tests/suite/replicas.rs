//! Two instances on one database are one service.

use attestation_service::store::sessions::{AttestedSession, Claim};
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::support::mint::Mint;
use crate::support::{Home, Instance, NOW, SECRET, ephemeral_key, jwks, kid};

async fn two() -> (Instance, Instance, Home) {
    let (first, home) = Instance::ready().await;
    let second = Instance::open(&home).await;
    (first, second, home)
}

#[tokio::test]
async fn a_challenge_of_one_is_used_by_the_other() {
    let (first, second, _home) = two().await;
    let challenge = first.challenge(&[]).await;
    let mint = Mint::new(challenge.attested());
    assert_eq!(second.attest(&challenge, &mint, json!({})).await.status, StatusCode::OK);
    let again = first.attest(&challenge, &mint, json!({})).await;
    assert_eq!(again.problem(), (409, "challenge_used".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_challenge_is_used_once_however_many_try_on_both() {
    let (first, second, _home) = two().await;
    for _ in 0..8 {
        let challenge = first.challenge(&[]).await;
        let mint = Mint::new(challenge.attested());
        let attempts = [&first, &second, &first, &second, &first, &second];
        let mut running = tokio::task::JoinSet::new();
        for instance in attempts {
            running.spawn(instance.attesting(&challenge, &mint, json!({})));
        }
        let mut statuses: Vec<u16> =
            running.join_all().await.into_iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
    }
}

#[tokio::test]
async fn a_token_of_one_opens_the_resource_at_the_other() {
    let (first, second, _home) = two().await;
    let key = ephemeral_key();
    let token = first.token(&key).await;
    let answer = second.resource(Method::POST, &token, "disk-key").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let sealed: String = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(key.decrypt(&sealed).unwrap().as_slice(), SECRET);
    assert_eq!(jwks(&first).await, jwks(&second).await);
}

#[tokio::test]
async fn a_new_signing_key_is_everybodys_at_once() {
    let (first, second, _home) = two().await;
    let before = kid(&second.token(&ephemeral_key()).await);
    let made = first.admin(Method::POST, "/signing-keys", &json!({ "algorithm": "ES384" })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let after = kid(&second.token(&ephemeral_key()).await);
    assert_ne!(before, after);
    assert_eq!(made.json()["kid"], after);
}

#[tokio::test]
async fn a_first_key_that_both_find_missing_is_made_once() {
    let home = Home::new();
    let (first, second) = (Instance::open(&home).await, Instance::open(&home).await);
    let (a, b) = tokio::join!(first.service.tokens.maintain(), second.service.tokens.maintain());
    a.unwrap();
    b.unwrap();
    assert_eq!(jwks(&first).await["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_broker_session_is_claimed_once_and_then_attested_everywhere() {
    let (first, second, _home) = two().await;
    let (here, there) = (&first.service.store, &second.service.store);
    assert!(here.open_session("s", "cca", &[7; 32], NOW, 300, 1).await.unwrap());
    assert!(!there.open_session("t", "cca", &[7; 32], NOW, 300, 1).await.unwrap(), "one too many");
    let (a, b) = tokio::join!(here.claim_session("s", NOW), there.claim_session("s", NOW));
    let granted = Claim::Granted { tee: "cca".to_owned(), nonce: vec![7; 32] };
    let claims = [a.unwrap(), b.unwrap()];
    assert!(claims.contains(&granted) && claims.contains(&Claim::Used), "{claims:?}");

    assert_eq!(there.attested_session("s", NOW).await.unwrap(), None);
    assert!(here.attest_session("s", "{}", "a.b.c", NOW + 60).await.unwrap());
    assert!(!there.attest_session("s", "{}", "x.y.z", NOW + 60).await.unwrap(), "it is attested already");
    let attested =
        AttestedSession { tee: "cca".to_owned(), tee_key: "{}".to_owned(), token: "a.b.c".to_owned() };
    assert_eq!(there.attested_session("s", NOW + 59).await.unwrap(), Some(attested.clone()));
    assert_eq!(there.attested_session("s", NOW + 60).await.unwrap(), None);
    assert_eq!(there.claim_session("s", NOW).await.unwrap(), Claim::Attested(attested));
    assert_eq!(there.claim_session("s", NOW + 60).await.unwrap(), Claim::Expired);
    assert_eq!(there.claim_session("other", NOW).await.unwrap(), Claim::Unknown);
    assert_eq!(here.sweep_sessions(NOW + 61).await.unwrap(), 1);
}
