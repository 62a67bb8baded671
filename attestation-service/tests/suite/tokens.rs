//! Signing keys: algorithms, rotation, overlap, and what is stored of them.

use attestation_service::token::{Algorithm, LEAD, TokenSettings};
use axum::http::{Method, StatusCode};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};

use crate::support::mint::Mint;
use crate::support::{Home, Instance, SETTINGS, ephemeral_key, jwks, kid};

const DAY: i64 = 24 * 3600;

/// As a relying party does it: with the published key set and nothing else.
fn verify(token: &str, key_set: &Value, algorithm: jsonwebtoken::Algorithm) -> Option<Value> {
    let key_set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(key_set.clone()).unwrap();
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["redoubt"]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let key = DecodingKey::from_jwk(key_set.find(&kid(token))?).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation).ok().map(|decoded| decoded.claims)
}

async fn rotating(days: i64) -> (Instance, Home) {
    let home = Home::new();
    let tokens = TokenSettings { rotation: days * DAY, ..TokenSettings::default() };
    let instance = Instance::open_with(&home, SETTINGS, tokens).await;
    instance.register(&Mint::new([0; 64])).await;
    (instance, home)
}

fn kids(key_set: &Value) -> Vec<String> {
    let keys = key_set["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_secgear_client_gets_a_token_that_it_can_verify_if_it_asks_for_ps256() {
    let (instance, _home) = Instance::ready().await;
    let challenge = instance.challenge(&[]).await;
    let mint = Mint::new(challenge.attested());
    let answer = instance.attest(&challenge, &mint, json!({ "token_alg": "PS256" })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let claims = verify(&answer.text(), &jwks(&instance).await, jsonwebtoken::Algorithm::PS256).unwrap();
    assert_eq!(claims["evaluation_reports"]["eval_result"], true);

    let challenge = instance.challenge(&[]).await;
    let mint = Mint::new(challenge.attested());
    let answer = instance.attest(&challenge, &mint, json!({ "token_alg": "HS256" })).await;
    assert_eq!(answer.problem(), (422, "body_invalid".to_owned()));
}

#[tokio::test]
async fn an_operator_chooses_the_algorithm_of_clients_that_ask_for_none() {
    let home = Home::new();
    let tokens = TokenSettings { algorithm: Algorithm::Ps256, ..TokenSettings::default() };
    let instance = Instance::open_with(&home, SETTINGS, tokens).await;
    instance.register(&Mint::new([0; 64])).await;
    let token = instance.token(&ephemeral_key()).await;
    assert_eq!(jsonwebtoken::decode_header(&token).unwrap().alg, jsonwebtoken::Algorithm::PS256);
}

#[tokio::test]
async fn a_token_confirms_the_attested_key_by_its_thumbprint_and_names_its_policies() {
    let (instance, _home) = Instance::ready().await;
    let key = ephemeral_key();
    let token = instance.token(&key).await;
    let claims = verify(&token, &jwks(&instance).await, jsonwebtoken::Algorithm::ES384).unwrap();
    use base64::Engine as _;
    let thumbprint = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.public_jwk().thumbprint());
    assert_eq!(claims["cnf"]["jkt"], thumbprint);
    let listed = instance.admin(Method::GET, "/policies", &json!(null)).await.json();
    assert_eq!(claims["policy_sha256"]["default_cca.rego"], listed[0]["sha256"]);
    for claim in ["iss", "aud", "iat", "nbf", "exp", "jti", "nonce"] {
        assert!(!claims[claim].is_null(), "{claim}");
    }
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_after_until_its_last_token_has_expired() {
    let (instance, _home) = rotating(30).await;
    let maintain = async || instance.service.tokens.maintain().await.unwrap();
    let old_token = instance.token(&ephemeral_key()).await;
    let old = kid(&old_token);

    instance.clock.advance(30 * DAY - LEAD);
    maintain().await;
    let published = kids(&jwks(&instance).await);
    assert_eq!(published.len(), 2);
    assert_eq!(kid(&instance.token(&ephemeral_key()).await), old, "it signs only when its time has come");

    instance.clock.advance(LEAD);
    maintain().await;
    let new_token = instance.token(&ephemeral_key()).await;
    assert_eq!(kid(&new_token), published[1]);
    let key_set = jwks(&instance).await;
    for token in [&old_token, &new_token] {
        assert!(verify(token, &key_set, jsonwebtoken::Algorithm::ES384).is_some());
    }

    instance.clock.advance(300 + 300 + 1);
    maintain().await;
    assert_eq!(kids(&jwks(&instance).await), [published[1].clone()]);
}

#[tokio::test]
async fn without_a_schedule_keys_stay() {
    let (instance, _home) = rotating(0).await;
    let old = kid(&instance.token(&ephemeral_key()).await);
    instance.clock.advance(10_000 * DAY);
    instance.service.tokens.maintain().await.unwrap();
    assert_eq!(kids(&jwks(&instance).await), [old]);
}

#[tokio::test]
async fn a_token_of_before_a_rotation_is_still_good_for_its_resource() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    for algorithm in ["ES384", "PS256"] {
        let made = instance.admin(Method::POST, "/signing-keys", &json!({ "algorithm": algorithm })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    }
    assert_eq!(instance.resource(Method::POST, &token, "disk-key").await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_of_a_key_that_was_taken_away_count_no_more() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    instance.admin(Method::POST, "/signing-keys", &json!({ "algorithm": "ES384" })).await;
    let path = format!("/signing-keys/{}", kid(&token));
    assert_eq!(instance.admin(Method::DELETE, &path, &json!(null)).await.status, StatusCode::NO_CONTENT);
    let refused = instance.resource(Method::POST, &token, "disk-key").await;
    assert_eq!(refused.problem(), (401, "token_invalid".to_owned()));
    assert_eq!(instance.admin(Method::DELETE, &path, &json!(null)).await.problem().0, 404);
    assert_eq!(instance.admin(Method::DELETE, "/signing-keys/..", &json!(null)).await.problem().0, 400);
}

#[tokio::test]
async fn an_instance_with_another_master_key_cannot_sign() {
    let (instance, home) = Instance::ready().await;
    instance.token(&ephemeral_key()).await;
    std::fs::write(home.path().join("master.key"), "11".repeat(32)).unwrap();
    let stranger = Instance::open(&home).await;
    let challenge = stranger.challenge(&[]).await;
    let answer = stranger.attest(&challenge, &Mint::new(challenge.attested()), json!({})).await;
    assert_eq!(answer.problem(), (503, "signing_failed".to_owned()));
}
