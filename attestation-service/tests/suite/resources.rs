//! Resources: sealed at rest, released by policy only, recorded.

use attestation_service::store::audit::{Entry, OK};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Instance, SECRET, ephemeral_key};

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn set_policy(instance: &Instance, name: &str, rego: &str) -> Answer {
    instance.admin(Method::POST, "/resource-policies", &json!({ "name": name, "rego": rego })).await
}

async fn bind(instance: &Instance, method: Method, policy: &str) -> Answer {
    let binding = json!({ "resource": "acme/disk-key", "policy": policy });
    instance.admin(method, "/bindings", &binding).await
}

async fn last_entry(instance: &Instance) -> Value {
    let log = instance.admin(Method::GET, "/audit", &json!(null)).await.json();
    log.as_array().unwrap().last().unwrap().clone()
}

#[tokio::test]
async fn without_a_policy_nobody_gets_a_resource() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    let unbound = bind(&instance, Method::DELETE, "oeas/affirming.rego").await;
    assert_eq!(unbound.status, StatusCode::NO_CONTENT);
    let refused = instance.resource(Method::POST, &token, "disk-key").await;
    assert_eq!(refused.problem(), problem(403, "resource_policy_missing"));
    assert_eq!(bind(&instance, Method::POST, "oeas/affirming.rego").await.status, StatusCode::NO_CONTENT);
    assert_eq!(instance.resource(Method::POST, &token, "disk-key").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_bound_policy_must_allow_and_sees_claims_and_resource() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    let cases = [
        ("allow := true", None),
        (r#"allow := input.tee == "cca""#, None),
        (r#"allow := data.resource == "acme/disk-key""#, None),
        (r#"allow := input.tee == "virtcca""#, Some("resource_policy_denied")),
        ("allow := 1", Some("resource_policy_denied")),
        (r#"allow := true if input.tee == "none""#, Some("resource_policy_error")),
        ("allow := to_number(input.tee)", Some("resource_policy_error")),
    ];
    assert_eq!(set_policy(&instance, "acme/own.rego", "package acme.own\nallow := true").await.status, 201);
    assert_eq!(bind(&instance, Method::POST, "acme/own.rego").await.status, StatusCode::NO_CONTENT);
    for (rule, refusal) in cases {
        let rego = format!("package acme.own\nimport rego.v1\n{rule}\n");
        assert_eq!(set_policy(&instance, "acme/own.rego", &rego).await.status, StatusCode::CREATED, "{rule}");
        let answer = instance.resource(Method::POST, &token, "disk-key").await;
        match refusal {
            None => assert_eq!(answer.status, StatusCode::OK, "{rule} {}", answer.text()),
            Some(code) => assert_eq!(answer.problem(), problem(403, code), "{rule}"),
        }
    }
}

#[tokio::test]
async fn a_deleted_policy_that_is_still_bound_releases_nothing() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    set_policy(&instance, "acme/own.rego", "package acme.own\nallow := true").await;
    bind(&instance, Method::POST, "acme/own.rego").await;
    let deleted = instance.admin(Method::DELETE, "/resource-policies/acme/own.rego", &json!(null)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let refused = instance.resource(Method::POST, &token, "disk-key").await;
    assert_eq!(refused.problem(), problem(403, "resource_policy_missing"));
}

#[tokio::test]
async fn another_vendors_policy_cannot_be_bound() {
    let (instance, _home) = Instance::ready().await;
    set_policy(&instance, "other/own.rego", "package other.own\nallow := true").await;
    let refused = bind(&instance, Method::POST, "other/own.rego").await;
    assert_eq!(refused.problem(), problem(422, "resource_policy_foreign"));
}

#[tokio::test]
async fn another_vendors_policy_releases_nothing_however_it_came_to_be_bound() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    set_policy(&instance, "other/own.rego", "package other.own\nallow := true").await;
    let mut change = instance.service.store.change().await.unwrap();
    let (resource, policy) = ("acme/disk-key".parse().unwrap(), "other/own.rego".parse().unwrap());
    change.bind_policy(&resource, &policy).await.unwrap();
    let entry = Entry { at: 0, actor: "test", action: "test", object: "test", digest: None, result: OK };
    change.commit(&entry).await.unwrap();
    let refused = instance.resource(Method::POST, &token, "disk-key").await;
    assert_eq!(refused.problem(), problem(403, "resource_policy_foreign"));
}

#[tokio::test]
async fn what_a_client_may_not_have_is_not_in_the_database_in_clear() {
    let (instance, _home) = Instance::ready().await;
    let name = "acme/disk-key".parse().unwrap();
    let stored = instance.service.store.resource(&name).await.unwrap().unwrap();
    let clear = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET);
    assert!(!clear(&stored.content.content) && !clear(&stored.content.wrapped_key));
    assert_eq!(instance.service.open_resource(&stored).await.unwrap().as_slice(), SECRET);
}

#[tokio::test]
async fn a_sealed_resource_opens_as_itself_only() {
    let (instance, _home) = Instance::ready().await;
    let name = "acme/disk-key".parse().unwrap();
    let stored = instance.service.store.resource(&name).await.unwrap().unwrap();
    let opens = async |change: fn(&mut attestation_service::store::resources::StoredResource)| {
        let mut other = stored.clone();
        change(&mut other);
        instance.service.open_resource(&other).await.is_ok()
    };
    assert!(opens(|_| {}).await);
    assert!(!opens(|other| other.entry.name = "acme/another".parse().unwrap()).await);
    assert!(!opens(|other| other.entry.name = "other/disk-key".parse().unwrap()).await);
    assert!(!opens(|other| other.entry.version += 1).await);
    assert!(!opens(|other| other.content.content[0] ^= 1).await);
    assert!(!opens(|other| *other.content.content.last_mut().unwrap() ^= 1).await);
    assert!(!opens(|other| other.content.wrapped_key[20] ^= 1).await);
    assert!(!opens(|other| other.content.master_key.push('x')).await);
    assert!(!opens(|other| other.content.content.truncate(20)).await);
}

#[tokio::test]
async fn a_resource_is_replaced_by_its_next_version_and_keeps_its_bindings() {
    let (instance, _home) = Instance::ready().await;
    let key = ephemeral_key();
    let token = instance.token(&key).await;
    let next = json!({ "name": "acme/disk-key", "content": "bmV4dA==" });
    assert_eq!(instance.admin(Method::POST, "/resources", &next).await.problem(), problem(409, "exists"));
    assert_eq!(instance.admin(Method::PUT, "/resources", &next).await.status, StatusCode::NO_CONTENT);
    let answer = instance.resource(Method::POST, &token, "disk-key").await;
    let sealed: String = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(key.decrypt(&sealed).unwrap().as_slice(), b"next");
    let listed = instance.admin(Method::GET, "/resources", &json!(null)).await.json();
    assert_eq!(listed[0]["version"], 2);
    assert_eq!(listed[0]["policies"], json!(["oeas/affirming.rego"]));
}

#[tokio::test]
async fn every_release_and_every_refusal_is_recorded() {
    let (instance, _home) = Instance::ready().await;
    let key = ephemeral_key();
    let token = instance.token(&key).await;
    instance.resource(Method::POST, &token, "disk-key").await;
    let entry = last_entry(&instance).await;
    assert_eq!((&entry["action"], &entry["result"]), (&json!("resource.release"), &json!("ok")));
    assert_eq!(entry["object"], "acme/disk-key");
    assert!(entry["actor"].as_str().unwrap().starts_with("tee:"), "{entry}");
    let log = instance.admin(Method::GET, "/audit", &json!(null)).await.json();
    let added = log.as_array().unwrap().iter().find(|entry| entry["action"] == "resource.add").unwrap();
    assert_eq!(entry["digest"], added["digest"]);
    use sha2::Digest as _;
    assert_ne!(entry["digest"], hex::encode(sha2::Sha256::digest(SECRET)), "guesses could be tried out");

    instance.resource(Method::POST, &token, "nothing").await;
    let entry = last_entry(&instance).await;
    assert_eq!((&entry["object"], &entry["result"]), (&json!("acme/nothing"), &json!("resource_unknown")));
}
