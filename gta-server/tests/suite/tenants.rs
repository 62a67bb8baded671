//! W8: who a tenant is, its key says; and what one tenant has, no other sees.

use axum::http::Method;
use gta_server::model::Role;
use gta_server::service::Settings;
use gta_server::store::Purpose;
use serde_json::{Value, json};

use crate::support::{Client, OTHER, TENANT, World, strict};

const POLICY: &str = "package verification\nresult := {\"policy_matched\": true}";

#[tokio::test]
async fn a_header_says_nothing_without_its_key() {
    let world = World::new().await;
    let send = async |headers: &[(&str, &str)]| {
        world.instance.send(headers, Method::GET, "/policy", &Value::Null).await
    };
    let key = world.admin.key.as_str();
    let mut almost = key.to_owned();
    almost.replace_range(31.., if key.ends_with('a') { "b" } else { "a" });
    for (what, headers, problem) in [
        ("nobody", vec![], (400, "user_id_invalid")),
        ("no key", vec![("User-Id", TENANT)], (400, "api_key_invalid")),
        (
            "a long name",
            vec![("User-Id", "a23456789012345678901234567890123456x"), ("API-Key", key)],
            (400, "user_id_invalid"),
        ),
        ("a short key", vec![("User-Id", TENANT), ("API-Key", &key[1..])], (400, "api_key_invalid")),
        ("a wrong key", vec![("User-Id", TENANT), ("API-Key", &almost)], (401, "api_key_unknown")),
        (
            "an unknown key",
            vec![("User-Id", TENANT), ("API-Key", "a2345678901234567890123456789012")],
            (401, "api_key_unknown"),
        ),
        ("another's name", vec![("User-Id", OTHER), ("API-Key", key)], (401, "api_key_unknown")),
    ] {
        assert_eq!(send(&headers).await.problem(), problem, "{what}");
    }
    send(&[("User-Id", TENANT), ("API-Key", key)]).await.ok();
}

#[tokio::test]
async fn roles_may_do_what_is_theirs() {
    let world = World::new().await;
    let service = &world.instance.service;
    let mut clients = Vec::new();
    for role in [Role::Auditor, Role::Agent, Role::RelyingParty] {
        let key = service.add_key(TENANT, role, "test").await.unwrap();
        clients.push((role, Client { tenant: TENANT.to_owned(), key }));
    }
    let empty = json!({});
    for (role, client) in &clients {
        let can = |roles: &[Role]| roles.contains(role);
        for (method, path, allowed) in [
            (Method::POST, "/challenge", can(&[Role::Agent, Role::RelyingParty])),
            (Method::POST, "/attest", can(&[Role::Agent, Role::RelyingParty])),
            (Method::POST, "/enroll", can(&[Role::Agent])),
            (Method::POST, "/enroll/activate", can(&[Role::Agent])),
            (Method::POST, "/enroll/certified", can(&[Role::Agent])),
            (Method::GET, "/policy", can(&[Role::Auditor])),
            (Method::GET, "/cert", can(&[Role::Auditor])),
            (Method::GET, "/ref_value", can(&[Role::Auditor])),
            (Method::GET, "/node", can(&[Role::Auditor])),
            (Method::GET, "/policy/built_in", can(&[Role::Auditor])),
            (Method::GET, "/whoami", true),
        ] {
            let body = match path {
                "/challenge" => json!({ "attester_type": ["tpm_boot"] }),
                "/attest" => json!({ "measurements": [] }),
                "/enroll" => json!({ "node_id": "", "ek_certificate": "", "ek_public": "", "ak_public": "" }),
                "/enroll/activate" => json!({ "enrollment_id": "", "credential": "" }),
                "/enroll/certified" => {
                    json!({ "node_id": "", "nonce": "", "iak_certificate": "", "ak_public": "",
                    "certify_info": "", "signature": "" })
                }
                _ => Value::Null,
            };
            let answer = client.send(&world.instance, method, path, &body).await;
            let denied = answer.status == 403 && answer.body["code"] == "role_missing";
            assert_eq!(!denied, allowed, "{role:?} {path}: {answer:?}");
        }
        for path in ["/policy", "/cert", "/ref_value", "/node"] {
            let deletion = json!({ "delete_type": "all" });
            assert_eq!(
                client.delete(&world.instance, path, &deletion).await.problem(),
                (403, "role_missing")
            );
        }
        let answer = client.post(&world.instance, "/token/verify", &empty).await;
        assert_eq!(answer.problem(), (422, "body_invalid"));
    }
}

#[tokio::test]
async fn a_key_is_told_what_it_is() {
    let world = World::new().await;
    for (client, role) in [(&world.admin, "admin"), (&world.agent, "agent")] {
        let answer = client.get(&world.instance, "/whoami").await.ok();
        let actor = format!("key:{}", &client.key[..8]);
        assert_eq!(answer, json!({ "User-Id": TENANT, "role": role, "actor": actor }));
    }
}

/// W9: policies are the tenant's, and a client that names some can only narrow what passes.
#[tokio::test]
async fn a_policy_of_another_tenant_or_type_cannot_be_named() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let rego = |matched: bool| {
        let text = format!("package verification\nresult := {{\"policy_matched\": {matched}}}");
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)
    };
    let add = async |client: &Client, name: &str, kind: &str, matched: bool| {
        let policy = json!({ "name": name, "attester_type": [kind], "content_type": "text", "content": rego(matched) });
        let answer = client.post(&world.instance, "/policy", &policy).await.ok();
        answer["policy"]["id"].clone()
    };
    let foreign = add(&world.other, "theirs", "tpm_boot", true).await;
    let of_ima = add(&world.admin, "ima", "tpm_ima", true).await;
    let strict = add(&world.admin, "strict", "tpm_boot", false).await;
    let lenient = add(&world.admin, "lenient", "tpm_boot", true).await;
    let send = async |ids: &[&Value]| {
        let mut measurement = machine.good(&world, "tpm_boot").await;
        measurement["evidences"][0]["policy_ids"] = json!(ids);
        world.attest(measurement).await
    };
    for id in [&foreign, &of_ima, &json!("nothing")] {
        let answer = send(&[id]).await;
        assert_eq!(answer.problem(), (400, "policy_unknown"));
        assert!(answer.message().starts_with("Policy not found for ids: ["), "{answer:?}");
    }
    assert_eq!(world.result(send(&[&lenient]).await).await.0, "pass");
    let (status, token) = world.result(send(&[&lenient, &strict]).await).await;
    assert_eq!((status.as_str(), &token["unmatched_policy"]), ("fail", &json!([strict])));
    // The default policy applies beside the lenient one.
    let mut measurement = machine.good(&world, "tpm_boot").await;
    measurement["evidences"][0]["policy_ids"] = json!([lenient]);
    measurement["evidences"][0]["evidence"]["logs"] = json!([]);
    assert_eq!(world.result(world.attest(measurement).await).await.0, "fail");
}

#[tokio::test]
async fn tokens_are_verified_by_anybody_with_the_published_keys_and_outlive_rotation() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    let token = world.attest(measurement).await.ok()["tokens"][0]["token"].as_str().unwrap().to_owned();
    let verify = async |token: &str| {
        world.other.post(&world.instance, "/token/verify", &json!({ "token": token })).await.ok()
    };
    world.instance.service.store.keys().rotate(Purpose::Token).await.unwrap();
    assert_eq!(verify(&token).await["verification_pass"], true);
    let keys = world.instance.send(&[], Method::GET, "/jwks", &Value::Null).await.ok();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert!(keys["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()));
    let measurement = machine.good(&world, "tpm_boot").await;
    let newer = world.attest(measurement).await.ok()["tokens"][0]["token"].as_str().unwrap().to_owned();
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_ne!(kid(&token), kid(&newer));
    let parts: Vec<&str> = token.split('.').collect();
    let none = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        json!({ "alg": "none", "kid": kid(&token) }).to_string(),
    );
    let hs256 = jsonwebtoken::encode(
        &jsonwebtoken::Header { kid: Some(kid(&token)), ..jsonwebtoken::Header::default() },
        &json!({ "iss": "gta-server", "exp": i64::MAX, "nbf": 0 }),
        &jsonwebtoken::EncodingKey::from_secret(b"public"),
    );
    for forged in [
        format!("{}.{}.", none, parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], newer.rsplit('.').next().unwrap()),
        hs256.unwrap(),
        "a".to_owned(),
    ] {
        let answer = verify(&forged).await;
        assert_eq!(answer["verification_pass"], false, "{forged}");
        assert_eq!(answer.get("token_body"), None);
    }
    world.home.clock.advance(600);
    assert_eq!(verify(&token).await["message"], "Token is expired.");
    let empty = world.other.post(&world.instance, "/token/verify", &json!({ "token": "" })).await;
    assert_eq!((empty.problem().1, empty.message()), ("token_empty", "Token is empty"));
}

#[tokio::test]
async fn a_tenant_has_as_much_as_it_may() {
    let settings = Settings { max_policies: 1, max_certificates: 1, max_nodes: 1, ..strict() };
    let world = World::with(settings).await;
    let rego = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, POLICY);
    let policy = |name: &str| json!({ "name": name, "attester_type": ["tpm_boot"], "content_type": "text", "content": rego });
    world.admin.post(&world.instance, "/policy", &policy("a")).await.ok();
    assert_eq!(
        world.admin.post(&world.instance, "/policy", &policy("b")).await.problem(),
        (409, "quota_exceeded")
    );
    world.other.post(&world.instance, "/policy", &policy("b")).await.ok();
    let certificate = json!({ "name": "again", "type": ["tpm_ek"], "content": world.maker.pem() });
    assert_eq!(
        world.admin.post(&world.instance, "/cert", &certificate).await.problem(),
        (409, "quota_exceeded")
    );
    world.machine("node-1").await;
    let second = crate::support::Machine::new("node-2", &world.maker);
    assert_eq!(second.enrol(&world).await.problem(), (409, "quota_exceeded"));
}

#[tokio::test]
async fn a_key_is_renewed_by_who_holds_it() {
    let world = World::new().await;
    let nobody = world.instance.send(&[], Method::POST, "/register", &Value::Null).await;
    assert_eq!(nobody.problem(), (400, "user_id_invalid"));
    let renewed = world.agent.post(&world.instance, "/register", &Value::Null).await.ok();
    assert_eq!(renewed["User-Id"], TENANT);
    let client = Client { tenant: TENANT.to_owned(), key: renewed["API-Key"].as_str().unwrap().to_owned() };
    client.nonce(&world.instance, None).await;
    // The same role, and the old key is good no more.
    assert_eq!(client.get(&world.instance, "/policy").await.problem(), (403, "role_missing"));
    let old =
        world.agent.post(&world.instance, "/challenge", &json!({ "attester_type": ["tpm_boot"] })).await;
    assert_eq!(old.problem(), (401, "api_key_unknown"));
}

#[tokio::test]
async fn a_peer_that_asks_too_often_is_told_so() {
    let world = World::new().await;
    let limited = world.instance.limited();
    world.admin.get(&limited, "/policy").await.ok();
    let answer = world.admin.get(&limited, "/policy").await;
    assert_eq!(answer.problem(), (429, "rate_limited"));
    assert!(answer.message().starts_with("too many requests"));
}

/// Keys and policies are remembered for a moment, but not beyond a change by the same instance.
#[tokio::test]
async fn what_an_instance_changes_it_sees_at_once() {
    let fresh = std::time::Duration::from_secs(3600);
    let world = World::with(Settings { fresh, ..strict() }).await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.result(world.attest(measurement).await).await.0, "pass");
    let rego = "package verification\nresult := {\"policy_matched\": false}";
    let policy = json!({
        "name": "none", "attester_type": ["tpm_boot"], "content_type": "text", "is_default": true,
        "content": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, rego),
    });
    world.admin.post(&world.instance, "/policy", &policy).await.ok();
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.result(world.attest(measurement).await).await.0, "fail");
    world.agent.post(&world.instance, "/register", &Value::Null).await.ok();
    let refused = world.agent.post(&world.instance, "/register", &Value::Null).await;
    assert_eq!(refused.problem(), (401, "api_key_unknown"));
}
