//! What tenants register, and what is refused.

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{IsCa, PKCS_ECDSA_P384_SHA384, date_time_ymd};
use serde_json::{Value, json};
use sha2::Digest as _;
use verifier::testing::Authority;

use crate::support::{Signer, World};

const POLICY: &str = "package verification\nresult := {\"policy_matched\": true}";

fn policy(name: &str) -> Value {
    json!({ "name": name, "attester_type": ["tpm_boot"], "content_type": "text", "content": STANDARD.encode(POLICY) })
}

#[tokio::test]
async fn a_policy_comes_back_as_it_was_sent() {
    let world = World::new().await;
    let answer = world.admin.post(&world.instance, "/policy", &policy("mine")).await.ok();
    assert_eq!(answer["policy"]["version"], 1);
    let id = answer["policy"]["id"].as_str().unwrap();
    let listed = world.admin.get(&world.instance, &format!("/policy?ids={id}")).await.ok();
    assert_eq!(listed["policies"][0]["content"], STANDARD.encode(POLICY));
    assert_eq!(listed["policies"][0]["valid_code"], 0);
    assert_eq!(
        world.admin.post(&world.instance, "/policy", &policy("mine")).await.problem(),
        (409, "exists")
    );
}

#[tokio::test]
async fn policies_that_cannot_be_used_are_refused_when_they_are_sent() {
    let world = World::new().await;
    let with = |field: &str, value: Value| {
        let mut policy = policy("mine");
        policy[field] = value;
        policy
    };
    for (sent, problem) in [
        (with("name", json!("a<b")), (400, "name_invalid")),
        (with("name", json!("")), (400, "name_invalid")),
        (with("name", json!("a".repeat(256))), (400, "name_invalid")),
        (with("description", json!("a".repeat(513))), (400, "description_invalid")),
        (with("attester_type", json!([])), (400, "attester_type_missing")),
        (with("attester_type", json!(["sgx"])), (422, "body_invalid")),
        (with("content", json!("%")), (400, "policy_invalid")),
        (
            with("content", json!(STANDARD.encode("package verification\nresult := {"))),
            (400, "policy_invalid"),
        ),
        (with("content", json!(STANDARD.encode("package other\nresult := {}"))), (400, "policy_invalid")),
    ] {
        assert_eq!(world.admin.post(&world.instance, "/policy", &sent).await.problem(), problem, "{sent}");
    }
}

#[tokio::test]
async fn a_policy_without_a_verdict_is_an_error_and_no_pass() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    for rego in [
        "package verification\nresult := {}",
        "package verification\nresult := {\"policy_matched\": \"true\"}",
        "package verification\nresult := {\"policy_matched\": true} if input.nothing",
    ] {
        let mut policy = policy("mine");
        policy["content"] = json!(STANDARD.encode(rego));
        policy["is_default"] = json!(true);
        world.admin.post(&world.instance, "/policy", &policy).await.ok();
        let measurement = machine.good(&world, "tpm_boot").await;
        assert_eq!(world.attest(measurement).await.problem(), (400, "policy_error"), "{rego}");
        world.admin.delete(&world.instance, "/policy", &json!({ "delete_type": "all" })).await.ok();
    }
}

#[tokio::test]
async fn pages_have_as_many_as_are_wanted_and_say_where_the_next_begins() {
    let world = World::new().await;
    for name in ["c", "a", "b"] {
        world.admin.post(&world.instance, "/policy", &policy(name)).await.ok();
    }
    let names = |page: &Value| -> Vec<String> {
        page["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world.admin.get(&world.instance, "/policy?limit=2").await.ok();
    assert_eq!((names(&first), &first["next_cursor"]), (vec!["a".to_owned(), "b".to_owned()], &json!("b")));
    let second = world.admin.get(&world.instance, "/policy?limit=2&cursor=b").await.ok();
    assert_eq!((names(&second), second.get("next_cursor")), (vec!["c".to_owned()], None));
    let by_type = world.admin.get(&world.instance, "/policy?attester_type=tpm_ima").await.ok();
    assert!(names(&by_type).is_empty());
    for query in ["limit=0", "limit=101"] {
        let answer = world.admin.get(&world.instance, &format!("/policy?{query}")).await;
        assert_eq!(answer.problem(), (400, "limit_invalid"));
    }
    let answer = world.admin.get(&world.instance, "/policy?name=a").await;
    assert_eq!((answer.problem().1, answer.message()), ("query_unsupported", "Unsupported query parameter"));
}

#[tokio::test]
async fn a_name_that_is_taken_can_be_had_by_neither_adding_nor_changing() {
    let world = World::new().await;
    world.admin.post(&world.instance, "/policy", &policy("a")).await.ok();
    let id = world.admin.post(&world.instance, "/policy", &policy("b")).await.ok()["policy"]["id"].clone();
    let again = world.admin.post(&world.instance, "/policy", &policy("a")).await;
    assert_eq!(again.problem(), (409, "exists"));
    let put = async |name: &str| {
        let change = json!({ "id": id, "name": name });
        world.admin.send(&world.instance, Method::PUT, "/policy", &change).await
    };
    assert_eq!(put("a").await.problem(), (409, "exists"));
    put("c").await.ok();
}

#[tokio::test]
async fn deletions_are_all_or_nothing() {
    let world = World::new().await;
    let id = world.admin.post(&world.instance, "/policy", &policy("a")).await.ok()["policy"]["id"].clone();
    for (deletion, problem) in [
        (json!({ "delete_type": "id", "ids": [id, "00"] }), (404, "unknown")),
        (json!({ "delete_type": "id", "ids": [] }), (400, "ids_invalid")),
        (json!({ "delete_type": "attester_type" }), (400, "type_missing")),
        (json!({ "delete_type": "some" }), (422, "body_invalid")),
    ] {
        assert_eq!(world.admin.delete(&world.instance, "/policy", &deletion).await.problem(), problem);
    }
    let by_type = json!({ "delete_type": "attester_type", "attester_type": "tpm_ima" });
    world.admin.delete(&world.instance, "/policy", &by_type).await.ok();
    let left = async || world.admin.get(&world.instance, "/policy").await.ok()["policies"].clone();
    assert_eq!(left().await.as_array().unwrap().len(), 1);
    world.admin.delete(&world.instance, "/policy", &json!({ "delete_type": "id", "ids": [id] })).await.ok();
    assert_eq!(left().await, json!([]));
}

#[tokio::test]
async fn certificates_are_of_the_kind_that_they_are_registered_as() {
    let world = World::new().await;
    let signer = Signer::new();
    let mut expired = Authority::ca_params("Old", 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let expired = Authority::root(expired, &PKCS_ECDSA_P384_SHA384);
    let mut no_ca = Authority::ca_params("None", 1);
    no_ca.is_ca = IsCa::ExplicitNoCa;
    let no_ca = Authority::root(no_ca, &PKCS_ECDSA_P384_SHA384);
    for (kinds, content, problem) in [
        (json!(["tpm_ek"]), signer.pem.clone(), (400, "cert_invalid")),
        (json!(["tpm_boot"]), no_ca.pem(), (400, "cert_invalid")),
        (json!(["tpm_boot"]), expired.pem(), (400, "cert_expired")),
        (json!(["refvalue"]), "nothing".to_owned(), (400, "cert_invalid")),
        (json!(["refvalue"]), String::new(), (400, "cert_invalid")),
        (json!(["sgx"]), signer.pem.clone(), (400, "cert_type_unknown")),
        (json!([]), signer.pem.clone(), (400, "cert_type_unknown")),
        (json!(["tpm_ek"]), world.maker.revocation_list(&[1], 2025..2059), (400, "cert_invalid")),
    ] {
        let sent = json!({ "name": "x", "type": kinds, "content": content });
        assert_eq!(world.admin.post(&world.instance, "/cert", &sent).await.problem(), problem, "{kinds}");
    }
}

/// W19.
#[tokio::test]
async fn certificates_and_revocation_lists_are_described() {
    let world = World::new().await;
    let sub = world.maker.sub(Authority::ca_params("Sub", 0), &PKCS_ECDSA_P384_SHA384);
    let bundle = [world.maker.pem(), sub.pem()].concat();
    let certificate = json!({ "name": "bundle", "type": ["tpm_boot"], "content": bundle });
    let id = world.admin.post(&world.instance, "/cert", &certificate).await.ok()["cert"]["cert_id"].clone();
    let path = format!("/cert?ids={}", id.as_str().unwrap());
    let shown = world.admin.get(&world.instance, &path).await.ok();
    let described = shown["certs"][0]["certificates"].as_array().unwrap();
    assert_eq!(described.len(), 2);
    let (root, sub) = (&described[0], &described[1]);
    assert!(root["subject"].as_str().unwrap().contains("CN=Maker"), "{root}");
    assert!(sub["subject"].as_str().unwrap().contains("CN=Sub"), "{sub}");
    assert_eq!((&root["issuer"], &sub["issuer"]), (&root["subject"], &root["subject"]));
    assert!(root["not_before"].as_i64().unwrap() < root["not_after"].as_i64().unwrap());
    let der = der(&world.maker.pem());
    assert_eq!(root["fingerprint"], hex::encode(sha2::Sha256::digest(der)));
    let list = json!({ "name": "crl", "type": ["crl"], "crl_content": world.maker.revocation_list(&[7, 8], 2025..2059) });
    world.admin.post(&world.instance, "/cert", &list).await.ok();
    let shown = world.admin.get(&world.instance, "/cert?cert_type=crl").await.ok();
    let described = &shown["crls"][0]["revocation_lists"][0];
    assert_eq!((&described["issuer"], &described["revoked"]), (&root["subject"], &json!(2)));
    assert!(described["this_update"].as_i64().unwrap() < described["next_update"].as_i64().unwrap());
}

fn der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn revocation_lists_are_signed_by_an_authority_of_the_tenant() {
    let world = World::new().await;
    let stranger = Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384);
    // A hundred kilobytes.
    let many: Vec<u64> = (1..4000).collect();
    let forged = stranger.revocation_list(&many, 2025..2059);
    assert!(forged.len() > 100_000);
    for (what, list) in [
        ("of a stranger with the same name", forged),
        ("of the past", world.maker.revocation_list(&[1], 2025..2026)),
        ("nothing", "nothing".to_owned()),
    ] {
        let sent = json!({ "name": "crl", "type": ["crl"], "crl_content": list });
        assert_eq!(
            world.admin.post(&world.instance, "/cert", &sent).await.problem(),
            (400, "crl_invalid"),
            "{what}"
        );
    }
    let sent = json!({ "name": "crl", "type": ["crl"], "crl_content": world.maker.revocation_list(&[1], 2025..2059) });
    world.admin.post(&world.instance, "/cert", &sent).await.ok();
    let listed = world.admin.get(&world.instance, "/cert?cert_type=crl").await.ok();
    assert_eq!(listed["crls"][0]["crl_name"], "crl");
    world.admin.delete(&world.instance, "/cert", &json!({ "delete_type": "type", "type": "crl" })).await.ok();
    let listed = world.admin.get(&world.instance, "/cert?cert_type=crl").await.ok();
    assert_eq!(listed["crls"], json!([]));
}

/// W21: three segments, an algorithm of the list, and a signer whom the tenant has named.
#[tokio::test]
async fn reference_values_are_signed_by_a_signer_of_the_tenant() {
    let world = World::new().await;
    let (signer, stranger) = (Signer::new(), Signer::new());
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let files = json!({ "referenceValues": [{ "fileName": "/a", "sha256": "11".repeat(32) }] });
    let good = signer.sign(&files);
    let parts: Vec<&str> = good.split('.').collect();
    let header = |alg: &str| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string())
    };
    let send = async |content: &str| {
        let values = json!({ "name": "files", "attester_type": "tpm_ima", "content": content });
        world.admin.post(&world.instance, "/ref_value", &values).await
    };
    for (what, content) in [
        ("a stranger", stranger.sign(&files)),
        ("one segment", parts[0].to_owned()),
        ("two segments", parts[..2].join(".")),
        ("four segments", format!("{good}.{}", parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("none", format!("{}.{}.", header("none"), parts[1])),
        ("HS256", format!("{}.{}.{}", header("HS256"), parts[1], parts[2])),
        ("an RSA algorithm for a key on a curve", format!("{}.{}.{}", header("RS256"), parts[1], parts[2])),
        (
            "another payload",
            format!("{}.{}.{}", parts[0], stranger.sign(&json!({})).split('.').nth(1).unwrap(), parts[2]),
        ),
    ] {
        assert_eq!(send(&content).await.problem(), (400, "signature_invalid"), "{what}");
    }
    assert_eq!(send(&signer.sign(&json!({}))).await.problem(), (400, "ref_value_invalid"));
    // A signer of policies is none of reference values.
    let certificate = json!({ "name": "stranger", "type": ["policy"], "content": stranger.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    assert_eq!(send(&stranger.sign(&files)).await.problem(), (400, "signature_invalid"));
    send(&good).await.ok();
    world.admin.delete(&world.instance, "/ref_value", &json!({ "delete_type": "all" })).await.ok();
    // The signer's certificate ends with 2059.
    world.home.clock.advance(40 * 365 * 86_400);
    assert_eq!(send(&good).await.problem(), (400, "signature_invalid"));
}

/// W5: a name with quotes is a name.
#[tokio::test]
async fn file_names_are_data() {
    let world = World::new().await;
    let signer = Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let path = "/a', 'x'); DROP TABLE documents; --";
    let add = async |name: &str, path: &str, digest: &str| {
        let content = signer.sign(&json!({ "referenceValues": [{ "fileName": path, "sha256": digest }] }));
        let values = json!({ "name": name, "attester_type": "tpm_ima", "content": content });
        world.admin.post(&world.instance, "/ref_value", &values).await
    };
    for (path, digest) in [
        ("/a", "11"),
        ("/a", &*"g".repeat(64)),
        ("/a", &*"0".repeat(64)),
        ("", &*"11".repeat(32)),
        ("/\0", &*"11".repeat(32)),
    ] {
        assert_eq!(add("bad", path, digest).await.problem(), (400, "ref_value_invalid"), "{path:?} {digest}");
    }
    add("files", path, &"01".repeat(32)).await.ok();
    let mut machine = world.machine("node-1").await;
    machine.measure(path, &[1; 32]);
    let measurement = machine.good(&world, "tpm_ima").await;
    assert_eq!(world.result(world.attest(measurement).await).await.0, "pass");
}

/// W10: what is changed is looked at as if it were new.
#[tokio::test]
async fn changes_are_checked_like_additions() {
    let world = World::new().await;
    let id = world.admin.post(&world.instance, "/policy", &policy("a")).await.ok()["policy"]["id"].clone();
    let put =
        async |path: &str, body: Value| world.admin.send(&world.instance, Method::PUT, path, &body).await;
    let rego = |text: &str| STANDARD.encode(text);
    for (change, problem) in [
        (json!({ "content": rego("package verification"), "content_type": "text" }), (400, "policy_invalid")),
        (json!({ "content": rego(POLICY) }), (400, "content_type_missing")),
        (
            json!({ "content": Signer::new().sign(&json!({ "policy": rego(POLICY) })), "content_type": "jwt" }),
            (400, "signature_invalid"),
        ),
        (json!({ "name": "<" }), (400, "name_invalid")),
        (json!({ "attester_type": [] }), (400, "attester_type_missing")),
        (json!({ "id": "00" }), (404, "unknown")),
    ] {
        let mut change = change;
        if change.get("id").is_none() {
            change["id"] = id.clone();
        }
        assert_eq!(put("/policy", change.clone()).await.problem(), problem, "{change}");
    }
    let foreign = world.other.send(&world.instance, Method::PUT, "/policy", &json!({ "id": id })).await;
    assert_eq!(foreign.problem(), (404, "unknown"));
    assert_eq!(
        world.agent.send(&world.instance, Method::PUT, "/policy", &json!({ "id": id })).await.problem(),
        (403, "role_missing")
    );
    let changed = put("/policy", json!({ "id": id, "name": "b", "is_default": true })).await.ok();
    assert_eq!((&changed["policy"]["version"], &changed["policy"]["name"]), (&json!(2), &json!("b")));
    let listed = world.admin.get(&world.instance, "/policy").await.ok();
    assert_eq!(listed["policies"][0]["name"], "b");
    assert_eq!(world.instance.service.store.fsck(&[]).await.unwrap().broken, []);

    let signer = Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    let id = world.admin.post(&world.instance, "/cert", &certificate).await.ok()["cert"]["cert_id"].clone();
    for (change, problem) in [
        (json!({ "id": id, "type": ["tpm_ek"] }), (400, "cert_invalid")),
        (json!({ "id": id, "content": signer.pem }), (400, "content_fixed")),
        (json!({ "id": id, "type": [] }), (400, "cert_type_unknown")),
    ] {
        assert_eq!(put("/cert", change).await.problem(), problem);
    }
    assert_eq!(
        put("/cert", json!({ "id": id, "type": ["refvalue", "policy"] })).await.ok()["cert"]["version"],
        2
    );

    let files =
        |digest: &str| json!({ "referenceValues": [{ "fileName": "/a", "sha256": digest.repeat(32) }] });
    let values = json!({ "name": "files", "attester_type": "tpm_ima", "content": signer.sign(&files("11")) });
    let id = world.admin.post(&world.instance, "/ref_value", &values).await.ok()["ref_value"]["id"].clone();
    let forged = json!({ "id": id, "content": Signer::new().sign(&files("22")) });
    assert_eq!(put("/ref_value", forged).await.problem(), (400, "signature_invalid"));
    let good = json!({ "id": id, "content": signer.sign(&files("22")) });
    assert_eq!(put("/ref_value", good).await.ok()["ref_value"]["version"], "2");
}
