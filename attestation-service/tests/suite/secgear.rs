//! secGear's requests and answers as they are on the wire, and what is safer than there.

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::mint::{Mint, digest};
use crate::support::{Answer, Instance, SECRET, ephemeral_key, request, send};

const REGO: &str = "package attestation\noutput := {\"allow\": input[\"cca.realm.rim\"] != null}";

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn write(instance: &Instance, path: &str, body: Value) -> Answer {
    instance.admin(Method::POST, path, &body).await
}

async fn get(instance: &Instance, token: Option<&str>, path: &str, body: Option<Value>) -> Answer {
    let mut request =
        Request::builder().method(Method::GET).uri(path).header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    send(&instance.public, request.body(body).unwrap()).await
}

#[tokio::test]
async fn an_operator_registers_policies_and_references_as_with_secgear() {
    let (instance, _home) = Instance::ready().await;
    let policy = json!({ "tee": "vcca", "id": "own.rego", "policy": URL_SAFE_NO_PAD.encode(REGO) });
    assert_eq!(write(&instance, "/policy", policy).await.text(), "set policy success");
    let rim = digest(0x12).to_string();
    let refs = json!({ "refs": json!({ "cca.realm.rim": rim, "other": [1, { "a": true }] }).to_string() });
    assert_eq!(write(&instance, "/reference", refs.clone()).await.text(), "set reference success");
    // Again, as secGear's scripts do.
    assert_eq!(write(&instance, "/reference", refs).await.status, StatusCode::OK);

    // The registered measurement is expected from now on, and the policy that a client names sees it.
    let challenge = instance.challenge(&[]).await;
    let mut mint = Mint::new(challenge.attested());
    mint.realm.rim = digest(0x12);
    let answer = instance.attest(&challenge, &mint, json!({ "policy_id": ["own.rego"] })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let claims = claims(&answer.text());
    assert_eq!(claims["evaluation_reports"]["policy"], json!(["own.rego"]));
    assert_eq!(claims["evaluation_reports"]["report"]["own.rego"], "{\"allow\":true}");
    for log in ["ima", "event", "uefi"] {
        assert_eq!(claims["evaluation_reports"]["report"][log], Value::Null);
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_policy_reads_back_with_a_body_and_by_query() {
    let (instance, _home) = Instance::ready().await;
    let policy = json!({ "id": "own.rego", "policy": URL_SAFE_NO_PAD.encode(REGO) });
    write(&instance, "/policy", policy).await;
    let named = Some(json!({ "policy_id": "own.rego" }));
    for answer in [
        get(&instance, None, "/policy", named).await,
        get(&instance, None, "/policy?policy_id=own.rego", None).await,
    ] {
        assert_eq!(URL_SAFE_NO_PAD.decode(answer.text()).unwrap(), REGO.as_bytes());
    }
    let built_in = get(&instance, None, "/policy?policy_id=default_cca.rego", None).await;
    assert_eq!(built_in.status, StatusCode::OK);
    let none = get(&instance, None, "/policy?policy_id=none.rego", None).await;
    assert_eq!(none.problem(), problem(404, "unknown"));
    assert_eq!(get(&instance, None, "/policy", None).await.problem(), problem(400, "body_missing"));
}

#[tokio::test]
async fn an_operator_manages_resources_as_with_secgear() {
    let (instance, _home) = Instance::ready().await;
    let own = json!({ "vendor": "acme", "id": "own.rego" });
    let rego = "package acme.own\ndefault allow = false\nallow { input.tee == \"cca\"; data.resource == \"acme/a/key\" }";
    let add = json!({ "Add": { "policy": own, "content": rego } });
    assert_eq!(write(&instance, "/resource/policy", add).await.text(), "successful");
    let resource = json!({ "vendor": "acme", "path": "a/key" });
    let op = |op: Value| json!({ "op": op, "resource": resource });
    let add = op(json!({ "Add": { "content": "v1", "policy": ["acme/own.rego"] } }));
    assert_eq!(write(&instance, "/resource/storage", add).await.text(), "successful");

    let (key, path) = (ephemeral_key(), "/resource/storage?vendor=acme&path=a%2Fkey");
    let token = instance.token(&key).await;
    let read = async || {
        let sealed = get(&instance, Some(&token), path, None).await;
        let text: String = serde_json::from_slice(&sealed.body).map_err(|_| sealed.problem())?;
        Ok::<_, (u16, String)>(String::from_utf8(key.decrypt(&text).unwrap().to_vec()).unwrap())
    };
    assert_eq!(read().await, Ok("v1".to_owned()));
    for (change, expected) in [
        (json!({ "Modify": { "content": "v2" } }), Ok("v2".to_owned())),
        (json!({ "Unbind": { "policy": ["acme/own.rego"] } }), Err(problem(403, "resource_policy_missing"))),
        (json!({ "Bind": { "policy": ["acme/own.rego"] } }), Ok("v2".to_owned())),
        (json!("Delete"), Err(problem(404, "resource_unknown"))),
    ] {
        assert_eq!(write(&instance, "/resource/storage", op(change.clone())).await.text(), "successful");
        assert_eq!(read().await, expected, "{change}");
    }
}

#[tokio::test]
async fn lists_are_for_accepted_guests_and_operators() {
    let (instance, _home) = Instance::ready().await;
    let list = json!({ "VendorGet": { "vendor": "acme" } });
    assert_eq!(
        get(&instance, None, "/resource/storage", Some(list.clone())).await.problem(),
        problem(401, "token_missing")
    );
    let token = instance.token(&ephemeral_key()).await;
    let names = get(&instance, Some(&token), "/resource/storage", Some(list.clone())).await;
    assert_eq!(names.json(), json!(["acme/disk-key"]));
    let mut refused: attestation_service::token::Claims = serde_json::from_value(claims(&token)).unwrap();
    refused.evaluation_reports.eval_result = false;
    let es384 = attestation_service::token::Algorithm::Es384;
    let refused = instance.service.tokens.sign(&refused, es384).await.unwrap();
    assert_eq!(
        get(&instance, Some(&refused), "/resource/storage", Some(list.clone())).await.problem(),
        problem(403, "appraisal_not_affirming")
    );
    let names = instance.admin(Method::GET, "/resource/storage", &list).await;
    assert_eq!(names.json(), json!(["acme/disk-key"]));
    let content = json!({ "TeeGet": { "resource": { "vendor": "acme", "path": "disk-key" } } });
    let content = instance.admin(Method::GET, "/resource/storage", &content).await;
    assert_eq!(content.problem(), problem(403, "public_plane_only"));
}

#[tokio::test]
async fn resource_policies_are_read_added_deleted_and_cleared() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    let text = "package acme.own\nallow := true";
    let own = json!({ "vendor": "acme", "id": "own.rego" });
    write(&instance, "/resource/policy", json!({ "Add": { "policy": own, "content": text } })).await;
    let one =
        get(&instance, Some(&token), "/resource/policy", Some(json!({ "GetOne": { "policy": own } }))).await;
    assert_eq!(one.text(), text);
    let all =
        async |wanted: Value| get(&instance, Some(&token), "/resource/policy", Some(wanted)).await.json();
    assert_eq!(all(json!("GetAll")).await, json!(["acme/own.rego"]));
    assert_eq!(all(json!({ "GetAllInVendor": { "vendor": "acme" } })).await, json!(["acme/own.rego"]));
    assert_eq!(all(json!({ "GetAllInVendor": { "vendor": "other" } })).await, json!([]));
    let nobody = get(&instance, None, "/resource/policy", Some(json!("GetAll"))).await;
    assert_eq!(nobody.problem(), problem(401, "token_missing"));

    assert_eq!(
        write(&instance, "/resource/policy", json!({ "Delete": { "policy": own } })).await.text(),
        "successful"
    );
    write(&instance, "/resource/policy", json!({ "Add": { "policy": own, "content": text } })).await;
    let clear = json!({ "ClearAll": { "vendor": "acme" } });
    assert_eq!(write(&instance, "/resource/policy", clear).await.text(), "successful");
    assert_eq!(all(json!("GetAll")).await, json!([]));
}

#[tokio::test]
async fn nothing_is_written_through_the_public_listener() {
    let (instance, _home) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    let location = json!({ "vendor": "acme", "path": "disk-key" });
    let policy = json!({ "vendor": "acme", "id": "own.rego" });
    for (path, body) in [
        ("/policy", json!({ "id": "default_cca.rego", "policy": "" })),
        ("/reference", json!({ "refs": "{\"cca.realm.rim\": \"00\"}" })),
        ("/resource/storage", json!({ "op": "Delete", "resource": location })),
        ("/resource/storage", json!({ "op": { "Modify": { "content": "x" } }, "resource": location })),
        (
            "/resource/policy",
            json!({ "Add": { "policy": policy, "content": "package acme.own\nallow := true" } }),
        ),
        ("/kbs/v0/resource/acme/disk/key", json!("content")),
    ] {
        let mut request = request(Method::POST, path, &body);
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let answer = send(&instance.public, request).await;
        assert_eq!(answer.problem(), problem(403, "admin_plane_only"), "{path}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("admin socket"));
    }
    assert_eq!(instance.resource(Method::POST, &token, "disk-key").await.status, StatusCode::OK);
}

#[tokio::test]
async fn strangers_write_nothing_on_the_admin_plane_either() {
    let (instance, _home) = Instance::ready().await;
    for path in ["/policy", "/reference", "/resource/storage", "/resource/policy", "/kbs/v0/resource/a/b/c"] {
        let answer = instance.admin_as(None, Method::POST, path, &json!({})).await;
        assert_eq!(answer.problem(), problem(403, "admin_denied"), "{path}");
        use attestation_service::admin::identity::Role;
        let reader = instance.admin_as(Some(&[Role::Reader]), Method::POST, path, &json!({})).await;
        assert_eq!(reader.problem(), problem(403, "role_missing"), "{path}");
    }
}

#[tokio::test]
async fn t11_names_with_tricks_are_refused_and_nothing_is_written() {
    let (instance, _home) = Instance::ready().await;
    let rego = URL_SAFE_NO_PAD.encode(REGO);
    let allow = "package acme.own\nallow := true";
    for bad in ["../x.rego", "/x.rego", "x\0.rego", "", ".rego", &format!("{}.rego", "x".repeat(300))] {
        let cases = [
            ("/policy", json!({ "id": bad, "policy": rego })),
            ("/reference", json!({ "refs": json!({ bad: "00" }).to_string() })),
            (
                "/resource/storage",
                json!({ "op": "Delete", "resource": { "vendor": "acme", "path": bad.replace(".rego", "/..") } }),
            ),
            (
                "/resource/policy",
                json!({ "Add": { "policy": { "vendor": "acme", "id": bad }, "content": allow } }),
            ),
            (
                "/resource/policy",
                json!({ "Add": { "policy": { "vendor": "a/..", "id": "x.rego" }, "content": allow } }),
            ),
            ("/resource/policy", json!({ "ClearAll": { "vendor": format!("{bad}/") } })),
        ];
        for (path, body) in cases {
            assert_eq!(
                write(&instance, path, body.clone()).await.problem(),
                problem(400, "name_invalid"),
                "{body}"
            );
        }
    }
    let listed = instance.admin(Method::GET, "/named-references", &json!(null)).await.json();
    assert_eq!(listed, json!([]));
}

#[tokio::test]
async fn what_secgear_would_take_silently_is_an_error() {
    let (instance, _home) = Instance::ready().await;
    let resource = json!({ "vendor": "acme", "path": "b" });
    for (path, body, status, code) in [
        ("/reference", json!({ "refs": "[]" }), 422, "refs_malformed"),
        ("/reference", json!({ "refs": "{" }), 422, "refs_malformed"),
        ("/reference", json!({ "refs": "{\"a\": null}" }), 422, "value_invalid"),
        ("/reference", json!({ "refs": "{\"virtcca_ima_00\": \"00\"}" }), 422, "reference_unsupported"),
        ("/policy", json!({ "id": "a.rego", "policy": "*" }), 422, "policy_malformed"),
        (
            "/policy",
            json!({ "id": "a.rego", "policy": URL_SAFE_NO_PAD.encode("package x") }),
            422,
            "policy_invalid",
        ),
        ("/policy", json!({ "id": "a", "policy": "" }), 400, "name_invalid"),
        (
            "/resource/storage",
            json!({ "op": { "Add": { "content": "x", "policy": ["nonsense"] } }, "resource": resource }),
            400,
            "name_invalid",
        ),
        (
            "/resource/storage",
            json!({ "op": { "Add": { "content": "x", "policy": ["other/x.rego"] } }, "resource": resource }),
            422,
            "resource_policy_foreign",
        ),
        (
            "/resource/policy",
            json!({ "Add": { "policy": { "vendor": "acme", "id": "a.rego" }, "content": "package acme.other\nallow := true" } }),
            422,
            "policy_invalid",
        ),
    ] {
        assert_eq!(
            write(&instance, path, body.clone()).await.problem(),
            problem(status, code),
            "{path} {body}"
        );
    }
    let resources = instance.admin(Method::GET, "/resources", &json!(null)).await.json();
    assert_eq!(resources.as_array().unwrap().len(), 1);
    let many: serde_json::Map<String, Value> = (0..1025).map(|n| (format!("claim.{n}"), json!(n))).collect();
    let many = write(&instance, "/reference", json!({ "refs": json!(many).to_string() })).await;
    assert_eq!(many.problem(), problem(422, "too_many_references"));
}

#[tokio::test]
async fn the_cookie_comes_back_to_clients_that_ask_for_it() {
    let (instance, _home) = Instance::ready().await;
    for asked in [false, true] {
        let challenge = instance.challenge(&[]).await;
        let evidence = URL_SAFE_NO_PAD.encode(Mint::new(challenge.attested()).evidence().to_json());
        let body = json!({ "challenge": challenge.text, "evidence": evidence, "policy_id": null });
        let mut request = request(Method::POST, "/attestation", &body);
        request.headers_mut().insert(COOKIE, challenge.cookie.parse().unwrap());
        if asked {
            request.headers_mut().insert("as-challenge", "as".parse().unwrap());
        }
        let answer = send(&instance.public, request).await;
        assert_eq!(answer.status, StatusCode::OK);
        let cookie = answer.headers.get(SET_COOKIE).map(|value| value.to_str().unwrap());
        assert_eq!(cookie.is_some_and(|cookie| cookie.starts_with(&challenge.cookie)), asked);
    }
}

#[tokio::test]
async fn the_accept_header_chooses_an_ear_that_releases_as_well() {
    let (instance, _home) = Instance::ready().await;
    let key = ephemeral_key();
    let challenge = instance.challenge(&key.public_jwk().thumbprint()).await;
    let evidence = URL_SAFE_NO_PAD.encode(Mint::new(challenge.attested()).evidence().to_json());
    let body = json!({ "challenge": challenge.text, "evidence": evidence, "tee_key": key.public_jwk() });
    let mut request = request(Method::POST, "/attestation", &body);
    request.headers_mut().insert(COOKIE, challenge.cookie.parse().unwrap());
    request.headers_mut().insert("accept", "text/html, application/eat+jwt;q=0.9".parse().unwrap());
    let answer = send(&instance.public, request).await;
    assert_eq!(answer.headers[CONTENT_TYPE], "application/eat+jwt");
    let (token, claims) = (answer.text(), claims(&answer.text()));
    assert_eq!(claims["eat_profile"], "tag:ietf.org,2026:rats/ear#04");
    assert_eq!(claims["eat_nonce"], challenge.text);
    assert_eq!(claims["submods"]["CCA_REALM"]["ear_status"], "affirming");
    assert_eq!(claims["submods"]["CCA_SSD_PLATFORM"]["ear_status"], "affirming");
    let sealed = instance.resource(Method::GET, &token, "disk-key").await;
    let sealed: String = serde_json::from_slice(&sealed.body).unwrap();
    assert_eq!(key.decrypt(&sealed).unwrap().as_slice(), SECRET);
}
