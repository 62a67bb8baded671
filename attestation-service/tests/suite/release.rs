//! T10: who gets a resource, and who does not.

use attestation_service::token::{Algorithm, Claims, TokenSettings};
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::mint::{Mint, digest};
use crate::support::{Home, Instance, SETTINGS, ephemeral_key};

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn good_claims(instance: &Instance) -> Claims {
    let token = instance.token(&ephemeral_key()).await;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

async fn release(instance: &Instance, claims: &Claims, path: &str) -> (u16, String) {
    let token = instance.service.tokens.sign(claims, Algorithm::Es384).await.unwrap();
    let answer = instance.resource(Method::GET, &token, path).await;
    if answer.status == StatusCode::OK { (200, String::new()) } else { answer.problem() }
}

#[tokio::test]
async fn t10_a_token_whose_result_is_false_gets_nothing() {
    let (instance, _home) = Instance::ready().await;
    let mut claims = good_claims(&instance).await;
    assert_eq!(release(&instance, &claims, "disk-key").await.0, 200);
    claims.evaluation_reports.eval_result = false;
    assert_eq!(release(&instance, &claims, "disk-key").await, problem(403, "appraisal_not_affirming"));
}

#[tokio::test]
async fn t10_no_kind_of_environment_gets_a_resource_that_has_no_policy() {
    let (instance, _home) = Instance::ready().await;
    let document = json!({ "name": "acme/bare", "content": "eA==" });
    assert_eq!(instance.admin(Method::POST, "/resources", &document).await.status, StatusCode::CREATED);
    let mut claims = good_claims(&instance).await;
    for tee in ["cca", "itrustee", "virtcca", "vcca", "anything"] {
        tee.clone_into(&mut claims.tee);
        assert_eq!(
            release(&instance, &claims, "bare").await,
            problem(403, "resource_policy_missing"),
            "{tee}"
        );
    }
}

#[tokio::test]
async fn t10_a_token_without_an_attested_key_gets_nothing() {
    let (instance, _home) = Instance::ready().await;
    let mut claims = good_claims(&instance).await;
    claims.cnf = None;
    assert_eq!(release(&instance, &claims, "disk-key").await, problem(403, "no_bound_key"));
}

#[tokio::test]
async fn t10_a_tenants_guest_gets_nothing_of_another_tenant() {
    let (instance, _home) = Instance::ready().await;
    let theirs = digest(0x77).to_string();
    let mine = Mint::new([0; 64]).realm.rim.to_string();
    for (vendor, rim) in [("tenant", &mine), ("other", &theirs)] {
        let rego = format!(
            "package {vendor}.own\nimport rego.v1\ndefault allow := false\nallow if input.tcb_status[\"cca.realm.rim\"] == \"{rim}\""
        );
        let policy = json!({ "name": format!("{vendor}/own.rego"), "rego": rego });
        assert_eq!(
            instance.admin(Method::POST, "/resource-policies", &policy).await.status,
            StatusCode::CREATED
        );
        let resource = json!({ "name": format!("{vendor}/key"), "content": "eA==", "policies": [format!("{vendor}/own.rego")] });
        assert_eq!(instance.admin(Method::POST, "/resources", &resource).await.status, StatusCode::CREATED);
    }
    let token = instance.token(&ephemeral_key()).await;
    let ask = async |vendor: &str| {
        let body = json!({ "TeeGet": { "resource": { "vendor": vendor, "path": "key" } } });
        let mut request = crate::support::request(Method::POST, "/resource/storage", &body);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        crate::support::send(&instance.public, request).await
    };
    assert_eq!(ask("tenant").await.status, StatusCode::OK);
    assert_eq!(ask("other").await.problem(), problem(403, "resource_policy_denied"));
}

#[tokio::test]
async fn t10_a_token_for_another_audience_gets_nothing() {
    let home = Home::new();
    let elsewhere = TokenSettings { audience: "tenant b".to_owned(), ..TokenSettings::default() };
    let instance = Instance::open(&home).await;
    instance.register(&Mint::new([0; 64])).await;
    let other = Instance::open_with(&home, SETTINGS, elsewhere).await;
    let token = other.token(&ephemeral_key()).await;
    assert_eq!(
        instance.resource(Method::GET, &token, "disk-key").await.problem(),
        problem(401, "token_audience")
    );
}
