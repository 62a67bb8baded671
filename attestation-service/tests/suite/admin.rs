//! The admin plane, in process.

use crate::support::mint::{Mint, PUBLISHED_CPAK, PUBLISHED_RAK, key_from_hex};
use crate::support::{Instance, NOW};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn anchor(mint: &Mint, name: &str) -> Value {
    json!({
        "name": name,
        "implementation_id": hex::encode(mint.platform.implementation_id),
        "instance_id": hex::encode(mint.platform.instance_id),
        "public_key": mint.public_key_pem(),
    })
}

#[tokio::test]
async fn serves_operators_that_were_authenticated_and_nobody_else() {
    let (instance, _home) = Instance::ready().await;
    for roles in [None, Some([].as_slice())] {
        for path in ["/trust-anchors", "/references", "/policies", "/resources", "/audit", "/nothing"] {
            let answer = instance.admin_as(roles, Method::GET, path, &json!(null)).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{roles:?} {path}");
        }
    }
    assert_eq!(instance.admin(Method::GET, "/policies", &json!(null)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn refuses_to_register_published_keys() {
    let (instance, _directory) = Instance::ready().await;
    for published in [PUBLISHED_CPAK, PUBLISHED_RAK] {
        let mut mint = Mint::new([0; 64]);
        mint.cpak = key_from_hex(published);
        mint.platform.implementation_id = [1; 32];
        let answer = instance.admin(Method::POST, "/trust-anchors", &anchor(&mint, "published")).await;
        assert_eq!(answer.problem(), problem(403, "trust_anchor_denied"));
    }
    let listed = instance.admin(Method::GET, "/trust-anchors", &json!(null)).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn adds_lists_and_deletes_what_is_trusted() {
    let (instance, _directory) = Instance::ready().await;
    for (path, name, more) in [
        ("/trust-anchors", "demo-platform", "development"),
        ("/references", "guest", "rim"),
        ("/resources", "acme/disk-key", "size"),
    ] {
        let listed = instance.admin(Method::GET, path, &json!(null)).await.json();
        assert_eq!(listed[0]["name"], name);
        assert!(listed[0].get(more).is_some(), "{listed}");
        assert!(listed[0].get("content").is_none(), "{listed}");
        let item = format!("{path}/{name}");
        assert_eq!(instance.admin(Method::DELETE, &item, &json!(null)).await.status, StatusCode::NO_CONTENT);
        assert_eq!(
            instance.admin(Method::DELETE, &item, &json!(null)).await.problem(),
            problem(404, "unknown")
        );
        assert_eq!(instance.admin(Method::GET, path, &json!(null)).await.json(), json!([]));
    }
}

#[tokio::test]
async fn names_and_platforms_are_registered_once() {
    let (instance, _directory) = Instance::ready().await;
    let mut mint = Mint::new([0; 64]);
    let same_platform = instance.admin(Method::POST, "/trust-anchors", &anchor(&mint, "second")).await;
    assert_eq!(same_platform.problem(), problem(409, "exists"));
    mint.platform.implementation_id = [1; 32];
    let same_name = instance.admin(Method::POST, "/trust-anchors", &anchor(&mint, "demo-platform")).await;
    assert_eq!(same_name.problem(), problem(409, "exists"));
    let reference = json!({ "name": "guest", "rim": "22".repeat(32) });
    assert_eq!(
        instance.admin(Method::POST, "/references", &reference).await.problem(),
        problem(409, "exists")
    );
}

#[tokio::test]
async fn refuses_what_it_could_not_use_later() {
    let (instance, _directory) = Instance::ready().await;
    let mut bad_key = anchor(&Mint::new([0; 64]), "bad");
    bad_key["public_key"] = json!("no key");
    let cases = [
        ("/trust-anchors", bad_key, "public_key_invalid"),
        ("/trust-anchors", json!({ "name": "a" }), "body_invalid"),
        ("/references", json!({ "name": "a", "rim": "00" }), "body_invalid"),
        ("/references", json!({ "name": "../a", "rim": "00".repeat(32) }), "body_invalid"),
        ("/references", json!({ "name": "a", "rim": "00".repeat(32), "rpv": "00" }), "body_invalid"),
        ("/references", json!({ "name": "a", "rim": "00".repeat(32), "rmes": [] }), "body_invalid"),
        (
            "/references",
            json!({ "name": "a", "rim": "00".repeat(32), "source": "x".repeat(513) }),
            "source_too_long",
        ),
        ("/policies", json!({ "id": "a.rego", "rego": "package other" }), "policy_invalid"),
        ("/resources", json!({ "name": "a", "content": "" }), "resource_name_invalid"),
        ("/resources", json!({ "name": "a/b", "content": "*" }), "content_malformed"),
    ];
    for (path, document, code) in cases {
        let answer = instance.admin(Method::POST, path, &document).await;
        assert_eq!(answer.problem(), problem(422, code), "{path} {document}");
    }
}

#[tokio::test]
async fn reference_values_keep_every_part() {
    let (instance, _directory) = Instance::ready().await;
    let rems = json!([null, "33".repeat(32), null, "44".repeat(32)]);
    let reference = json!({ "name": "full", "rim": "22".repeat(32), "rpv": "55".repeat(64), "rems": rems });
    assert_eq!(instance.admin(Method::POST, "/references", &reference).await.status, StatusCode::CREATED);
    let listed = instance.admin(Method::GET, "/references", &json!(null)).await.json();
    let full = listed.as_array().unwrap().iter().find(|item| item["name"] == "full").unwrap();
    for field in ["rim", "rpv", "rems"] {
        assert_eq!(full[field], reference[field]);
    }
}

#[tokio::test]
async fn the_built_in_policy_is_listed_until_it_is_replaced() {
    let (instance, _directory) = Instance::ready().await;
    let listed = instance.admin(Method::GET, "/policies", &json!(null)).await.json();
    assert_eq!(
        (listed[0]["id"].as_str(), listed[0]["added_at"].as_i64()),
        (Some("default_cca.rego"), Some(0))
    );
    let own =
        json!({ "id": "default_cca.rego", "rego": "package attestation\noutput := {\"allow\": false}" });
    assert_eq!(instance.admin(Method::POST, "/policies", &own).await.status, StatusCode::CREATED);
    let listed = instance.admin(Method::GET, "/policies", &json!(null)).await.json();
    let own_ones: Vec<_> = listed.as_array().unwrap().iter().filter(|p| p["id"] == own["id"]).collect();
    assert_eq!(own_ones.len(), 1);
    assert_eq!(own_ones[0]["rego"], own["rego"]);
}

#[tokio::test]
async fn t11_names_that_mean_something_to_a_file_system_are_refused_and_nothing_is_written() {
    let (instance, home) = Instance::ready().await;
    let before = home.tables().await;
    let long = "x".repeat(65);
    for name in ["%2e%2e", "%2e%2e%2fetc", "%2fetc%2fpasswd", "a%00b", long.as_str(), "a%20b"] {
        for path in ["/trust-anchors", "/trust-bundles", "/crls", "/references", "/policies"] {
            let answer = instance.admin(Method::DELETE, &format!("{path}/{name}"), &json!(null)).await;
            assert_eq!(answer.problem(), problem(400, "name_invalid"), "{path}/{name}");
        }
        let answer = instance.admin(Method::DELETE, &format!("/resources/{name}/a"), &json!(null)).await;
        assert_eq!(answer.problem(), problem(400, "resource_name_invalid"), "{name}");
    }
    for name in ["..", "../a", "/etc/passwd", "a\0b", long.as_str()] {
        let rego = "package attestation\noutput := {\"allow\": true}";
        for (path, document) in [
            ("/policies", json!({ "id": name, "rego": rego })),
            ("/references", json!({ "name": name, "rim": "00".repeat(32) })),
            ("/named-references", json!({ "name": name, "value": "00" })),
            ("/resource-policies", json!({ "name": format!("acme/{name}"), "rego": rego })),
            ("/resources", json!({ "name": format!("{name}/key"), "content": "" })),
            ("/resources", json!({ "name": format!("acme/{name}"), "content": "" })),
        ] {
            let answer = instance.admin(Method::POST, path, &document).await;
            assert!(matches!(answer.problem().0, 400 | 422), "{path} {name:?} {}", answer.text());
        }
    }
    assert_eq!(home.tables().await, before);
}

#[tokio::test]
async fn a_reference_value_that_has_expired_accepts_nobody() {
    let (instance, _home) = Instance::ready().await;
    let mint = Mint::new([0; 64]);
    instance.admin(Method::DELETE, "/references/guest", &json!(null)).await;
    let reference = json!({ "name": "guest", "rim": mint.realm.rim, "expires_at": NOW + 10 });
    assert_eq!(instance.admin(Method::POST, "/references", &reference).await.status, StatusCode::CREATED);
    let attest = async || {
        let challenge = instance.challenge(&[]).await;
        instance.attest(&challenge, &Mint::new(challenge.attested()), json!({})).await
    };
    assert_eq!(attest().await.status, StatusCode::OK);
    instance.clock.advance(10);
    assert_eq!(attest().await.problem(), problem(403, "rim_mismatch"));
}

#[tokio::test]
async fn named_references_are_exact_values_that_expire_and_never_null() {
    let (instance, _home) = Instance::ready().await;
    let set = async |value: Value, expires_at: Option<i64>| {
        let body = json!({ "name": "vcca.cvm.rim", "value": value, "expires_at": expires_at });
        instance.admin(Method::POST, "/named-references", &body).await
    };
    assert_eq!(set(json!("aa"), Some(NOW + 10)).await.status, StatusCode::CREATED);
    assert_eq!(set(json!(["bb", 1]), None).await.status, StatusCode::CREATED);
    assert_eq!(set(json!(null), None).await.problem(), problem(422, "value_invalid"));
    let has = async |name: &str, value: Value, now: i64| {
        let claims = [(name.to_owned(), value)].into_iter().collect();
        instance.service.store.registered_names(&claims, now).await.unwrap().contains(name)
    };
    assert!(has("vcca.cvm.rim", json!("aa"), NOW + 9).await);
    assert!(!has("vcca.cvm.rim", json!("aa"), NOW + 10).await);
    assert!(has("vcca.cvm.rim", json!(["bb", 1]), NOW + 10).await);
    assert!(!has("vcca.cvm.rim", json!(["bb", 2]), NOW).await);
    assert!(!has("vcca.cvm.rpv", json!("aa"), NOW).await);
    let deleted = instance.admin(Method::DELETE, "/named-references/vcca.cvm.rim", &json!(null)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert!(!has("vcca.cvm.rim", json!(["bb", 1]), NOW).await);
}

#[tokio::test]
async fn named_references_are_found_among_any_number_of_claims() {
    let (instance, _home) = Instance::ready().await;
    let claims: serde_json::Map<String, Value> =
        (0..60).map(|number| (format!("claim.{number:02}"), json!(number))).collect();
    for number in [0, 23, 24, 48, 59] {
        let body = json!({ "name": format!("claim.{number:02}"), "value": number });
        let answer = instance.admin(Method::POST, "/named-references", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED);
    }
    let other = json!({ "name": "claim.30", "value": "another" });
    assert_eq!(instance.admin(Method::POST, "/named-references", &other).await.status, StatusCode::CREATED);
    let found = instance.service.store.registered_names(&claims, NOW).await.unwrap();
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        ["claim.00", "claim.23", "claim.24", "claim.48", "claim.59"]
    );
    assert!(instance.service.store.registered_names(&serde_json::Map::new(), NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_replaced_policy_keeps_its_old_versions_on_record() {
    let (instance, _home) = Instance::ready().await;
    let policy = |allow: bool| json!({ "id": "a.rego", "rego": format!("package attestation\noutput := {{\"allow\": {allow}}}") });
    assert_eq!(instance.admin(Method::POST, "/policies", &policy(true)).await.status, StatusCode::CREATED);
    let replaced = instance.admin(Method::PUT, "/policies", &policy(false)).await;
    assert_eq!(replaced.status, StatusCode::NO_CONTENT, "{}", replaced.text());
    let deleted = instance.admin(Method::DELETE, "/policies/a.rego", &json!(null)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(instance.admin(Method::POST, "/policies", &policy(true)).await.status, StatusCode::CREATED);
    let versions = instance.admin(Method::GET, "/policies/a.rego", &json!(null)).await.json();
    let numbers: Vec<_> = versions.as_array().unwrap().iter().map(|v| v["version"].as_i64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    assert_eq!(versions[0]["sha256"], versions[2]["sha256"]);
    assert_ne!(versions[0]["sha256"], versions[1]["sha256"]);
}

#[tokio::test]
async fn bundles_and_revocation_lists_are_certificates_and_lists() {
    let (instance, _home) = Instance::ready().await;
    let (certificate, device) = authority_and_device();
    let bundle = json!({ "name": "vendor", "pem": certificate });
    assert_eq!(instance.admin(Method::POST, "/trust-bundles", &bundle).await.status, StatusCode::CREATED);
    assert_eq!(
        instance.admin(Method::POST, "/trust-bundles", &bundle).await.problem(),
        problem(409, "exists")
    );
    for (path, pem, code) in [
        ("/trust-bundles", "nothing", "bundle_invalid"),
        ("/trust-bundles", device.as_str(), "bundle_invalid"),
        ("/crls", certificate.as_str(), "crl_invalid"),
        ("/crls", "", "crl_invalid"),
    ] {
        let answer = instance.admin(Method::POST, path, &json!({ "name": "other", "pem": pem })).await;
        assert_eq!(answer.problem(), problem(422, code), "{path}");
    }
    let listed = instance.admin(Method::GET, "/trust-bundles", &json!(null)).await.json();
    assert_eq!(listed[0]["pem"], certificate);
    let deleted = instance.admin(Method::DELETE, "/trust-bundles/vendor", &json!(null)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
}

/// A certificate that may certify, and one that may not.
fn authority_and_device() -> (String, String) {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let device = rcgen::generate_simple_self_signed(Vec::<String>::new()).unwrap();
    (certificate.pem(), device.cert.pem())
}
