//! The audit log: everything is in it, and nothing leaves it.

use attestation_service::admin::identity::Role;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::Instance;

async fn log(instance: &Instance, query: &str) -> Vec<Value> {
    let answer = instance.admin(Method::GET, &format!("/audit{query}"), &json!(null)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json().as_array().unwrap().clone()
}

#[tokio::test]
async fn says_who_changed_what_and_what_was_refused() {
    let (instance, _home) = Instance::ready().await;
    let policy = json!({ "id": "a.rego", "rego": "package attestation\noutput := {\"allow\": true}" });
    assert_eq!(instance.admin(Method::POST, "/policies", &policy).await.status, StatusCode::CREATED);
    assert_eq!(instance.admin(Method::POST, "/policies", &policy).await.status, StatusCode::CONFLICT);
    assert_eq!(instance.admin(Method::DELETE, "/policies/b.rego", &json!(null)).await.status, 404);
    let entries = log(&instance, "").await;
    let told: Vec<_> = entries[entries.len() - 3..]
        .iter()
        .map(|entry| [&entry["actor"], &entry["action"], &entry["object"], &entry["result"]])
        .map(|fields| fields.map(|field| field.as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ["test:operator", "policy.add", "a.rego", "ok"],
            ["test:operator", "policy.add", "a.rego", "exists"],
            ["test:operator", "policy.delete", "b.rego", "unknown"],
        ]
    );
    assert_eq!(entries[entries.len() - 3]["digest"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn is_read_page_by_page() {
    let (instance, _home) = Instance::ready().await;
    let all = log(&instance, "").await;
    assert!(all.len() >= 3, "{all:?}");
    let first = log(&instance, "?limit=2").await;
    assert_eq!(first, all[..2]);
    let rest = log(&instance, &format!("?after={}", first[1]["seq"])).await;
    assert_eq!(rest, all[2..]);
    let answer = instance.admin(Method::GET, "/audit?limit=x", &json!(null)).await;
    assert_eq!(answer.problem(), (400, "query_malformed".to_owned()));
}

#[tokio::test]
async fn cannot_be_changed_even_by_whoever_holds_the_database() {
    let (instance, home) = Instance::ready().await;
    let before = log(&instance, "").await;
    for statement in
        ["UPDATE audit SET result = 'ok'", "DELETE FROM audit", "DELETE FROM audit WHERE seq = 1"]
    {
        let error = home.sql(statement).await.unwrap_err();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(log(&instance, "").await, before);
}

#[tokio::test]
async fn a_change_that_cannot_be_recorded_is_not_made() {
    let (instance, home) = Instance::ready().await;
    home.sql("ALTER TABLE audit RENAME TO elsewhere").await.unwrap();
    let policy = json!({ "id": "a.rego", "rego": "package attestation\noutput := {\"allow\": true}" });
    assert_eq!(instance.admin(Method::POST, "/policies", &policy).await.status, 503);
    home.sql("ALTER TABLE elsewhere RENAME TO audit").await.unwrap();
    let policies = instance.admin(Method::GET, "/policies", &json!(null)).await.json();
    assert!(policies.as_array().unwrap().iter().all(|policy| policy["version"] == 0), "the built-in ones");
}

#[tokio::test]
async fn a_release_that_cannot_be_recorded_does_not_happen() {
    let (instance, home) = Instance::ready().await;
    let token = instance.token(&crate::support::ephemeral_key()).await;
    home.sql("ALTER TABLE audit RENAME TO elsewhere").await.unwrap();
    let answer = instance.resource(Method::POST, &token, "disk-key").await;
    assert_eq!(answer.problem(), (503, "store_unavailable".to_owned()));
}

#[tokio::test]
async fn roles_bound_what_an_operator_may_change() {
    let (instance, _home) = Instance::ready().await;
    let policy = json!({ "id": "a.rego", "rego": "package attestation\noutput := {\"allow\": true}" });
    let resource = json!({ "name": "acme/a", "content": "" });
    let key = json!({ "algorithm": "ES384" });
    let bundle = json!({ "name": "a", "pem": "" });
    let requests = [
        ("/policies", &policy, Role::PolicyAdmin),
        ("/resources", &resource, Role::ResourceAdmin),
        ("/signing-keys", &key, Role::Admin),
        ("/trust-bundles", &bundle, Role::Admin),
    ];
    for role in [Role::Reader, Role::PolicyAdmin, Role::ResourceAdmin] {
        for (path, body, needed) in &requests {
            let answer = instance.admin_as(Some(&[role]), Method::POST, path, body).await;
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, role != *needed, "{role:?} {path} {}", answer.text());
        }
        let read = instance.admin_as(Some(&[role]), Method::GET, "/audit", &json!(null)).await;
        assert_eq!(read.status, StatusCode::OK);
    }
}
