//! The public plane, in process.

use std::collections::HashSet;

use crate::support::mint::{Mint, digest, key};
use crate::support::{Challenge, Home, Instance, NOW, SECRET, SETTINGS, ephemeral_key, request, send};
use attestation_service::harness::{CHALLENGE, Harness};
use attestation_service::service::Settings;
use attestation_service::token::{Algorithm, Claims, TokenSettings};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::cca::Lifecycle;
use serde_json::{Value, json};

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_registered_realm_gets_a_token_and_its_secret() {
    let (instance, _directory) = Instance::ready().await;
    let key = ephemeral_key();
    let token = instance.token(&key).await;

    let claims = claims(&token);
    assert_eq!(claims["iss"], "redoubt");
    assert_eq!(claims["aud"], "redoubt");
    assert_eq!((claims["iat"].as_i64(), claims["nbf"].as_i64()), (Some(NOW), Some(NOW)));
    assert_eq!(claims["exp"], NOW + 300);
    assert_eq!(claims["tee"], "cca");
    assert_eq!(claims["tcb_status"]["cca.realm.rim"], "11".repeat(32));
    assert_eq!(claims["evaluation_reports"]["eval_result"], true);
    let report: Value =
        serde_json::from_str(claims["evaluation_reports"]["report"]["default_cca.rego"].as_str().unwrap())
            .unwrap();
    assert_eq!(report["allow"], true);
    assert_eq!(claims["cnf"]["jwk"], json!(key.public_jwk()));

    for method in [Method::POST, Method::GET] {
        let answer = instance.resource(method, &token, "disk-key").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let sealed: String = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(key.decrypt(&sealed).unwrap().as_slice(), SECRET);
        assert!(!answer.text().contains("disk key"));
    }
}

#[tokio::test]
async fn tokens_verify_with_the_published_key_and_name_it() {
    let (instance, _directory) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    let key_set = send(&instance.public, request(Method::GET, "/.well-known/jwks.json", &json!(null))).await;
    let key_set: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&key_set.body).unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let jwk = key_set.find(&header.kid.unwrap()).unwrap();
    assert_eq!(
        jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap(),
        jwk.common.key_id.clone().unwrap()
    );
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES384);
    validation.set_audience(&["redoubt"]);
    let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
    jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
}

#[tokio::test]
async fn challenges_differ_carry_user_data_and_come_with_a_protected_cookie() {
    let (instance, _directory) = Instance::ready().await;
    let user_data = [7; 32];
    let query = format!("/challenge?user_data={}", URL_SAFE_NO_PAD.encode(user_data));
    let mut seen = HashSet::new();
    for request in [
        request(Method::GET, "/challenge", &json!({ "user_data": user_data })),
        request(Method::POST, "/challenge", &json!({ "user_data": user_data })),
        Request::get(query).body(Body::empty()).unwrap(),
    ] {
        let answer = send(&instance.public, request).await;
        let text: String = serde_json::from_slice(&answer.body).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        assert_eq!(bytes[32..], user_data);
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap().to_owned();
        for attribute in ["; HttpOnly", "; Secure", "; SameSite=Strict", "; Path=/", "; Max-Age=300"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        let id = cookie.strip_prefix("oeas-session-id=").unwrap().split(';').next().unwrap();
        assert_eq!(hex::decode(id).unwrap().len(), 16);
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
        assert!(seen.insert(bytes) && seen.insert(cookie.into_bytes()));
    }
    let bare = send(&instance.public, Request::get("/challenge").body(Body::empty()).unwrap()).await;
    assert_eq!(URL_SAFE_NO_PAD.decode(bare.json().as_str().unwrap()).unwrap().len(), 32);
}

#[tokio::test]
async fn t7_a_challenge_is_used_once() {
    let (instance, _directory) = Instance::ready().await;
    let challenge = instance.challenge(&[]).await;
    let mint = Mint::new(challenge.attested());
    assert_eq!(instance.attest(&challenge, &mint, json!({})).await.status, StatusCode::OK);
    let again = instance.attest(&challenge, &mint, json!({})).await;
    assert_eq!(again.problem(), problem(409, "challenge_used"));
}

#[tokio::test]
async fn a_refused_attempt_spends_the_challenge_too() {
    let (instance, _directory) = Instance::ready().await;
    let challenge = instance.challenge(&[]).await;
    let refused = instance.attest(&challenge, &Mint::new([0; 64]), json!({})).await;
    assert_eq!(refused.problem(), problem(403, "nonce_mismatch"));
    let again = instance.attest(&challenge, &Mint::new(challenge.attested()), json!({})).await;
    assert_eq!(again.problem(), problem(409, "challenge_used"));
}

#[tokio::test]
async fn a_challenge_expires() {
    let (instance, _directory) = Instance::ready().await;
    let challenge = instance.challenge(&[]).await;
    let mint = Mint::new(challenge.attested());
    instance.clock.advance(300);
    let late = instance.attest(&challenge, &mint, json!({})).await;
    assert_eq!(late.problem(), problem(409, "challenge_expired"));
}

#[tokio::test]
async fn t7_a_challenge_of_ones_own_making_is_unknown() {
    let (instance, _directory) = Instance::ready().await;
    let mut challenge = instance.challenge(&[]).await;
    challenge.text = URL_SAFE_NO_PAD.encode([1; 32]);
    let made_up = instance.attest(&challenge, &Mint::new(challenge.attested()), json!({})).await;
    assert_eq!(made_up.problem(), problem(409, "challenge_unknown"));
}

#[tokio::test]
async fn t7_a_challenge_belongs_to_its_session_and_others_cannot_spend_it() {
    let (instance, _directory) = Instance::ready().await;
    let (mine, other) = (instance.challenge(&[]).await, instance.challenge(&[]).await);
    let mint = Mint::new(mine.attested());
    let stolen = Challenge { text: mine.text.clone(), cookie: other.cookie };
    assert_eq!(instance.attest(&stolen, &mint, json!({})).await.problem(), problem(409, "challenge_unknown"));
    let none = Challenge { text: mine.text.clone(), cookie: "other=1".to_owned() };
    assert_eq!(instance.attest(&none, &mint, json!({})).await.problem(), problem(401, "session_missing"));
    assert_eq!(instance.attest(&mine, &mint, json!({})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn replicas_on_one_database_accept_a_challenge_once() {
    let (first, directory) = Instance::ready().await;
    let second = Instance::open(&directory).await;
    for _ in 0..16 {
        let challenge = first.challenge(&[]).await;
        let mint = Mint::new(challenge.attested());
        let (a, b) = tokio::join!(
            first.attest(&challenge, &mint, json!({})),
            second.attest(&challenge, &mint, json!({}))
        );
        let mut statuses = [a.status.as_u16(), b.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{} {}", a.text(), b.text());
    }
}

#[tokio::test]
async fn outstanding_challenges_are_bounded_and_expiry_makes_room() {
    let settings = Settings { challenge_lifetime: 300, max_challenges: 2 };
    let instance = Instance::open_with(&Home::new(), settings, TokenSettings::default()).await;
    let ask = || send(&instance.public, Request::get("/challenge").body(Body::empty()).unwrap());
    assert_eq!([ask().await.status, ask().await.status], [StatusCode::OK; 2]);
    assert_eq!(ask().await.problem(), problem(429, "challenges_exhausted"));
    instance.clock.advance(300);
    assert_eq!(ask().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_is_confirmed_only_if_the_challenge_carries_its_thumbprint() {
    let (instance, _directory) = Instance::ready().await;
    let (key, other) = (ephemeral_key(), ephemeral_key());
    for user_data in [other.public_jwk().thumbprint().to_vec(), Vec::new(), vec![0; 31]] {
        let challenge = instance.challenge(&user_data).await;
        let mint = Mint::new(challenge.attested());
        let answer = instance.attest(&challenge, &mint, json!({ "tee_key": key.public_jwk() })).await;
        assert_eq!(answer.problem(), problem(403, "tee_key_unbound"));
    }
}

#[tokio::test]
async fn refusals_name_their_step_and_code() {
    let (instance, _directory) = Instance::ready().await;
    type Change = fn(&mut Mint);
    let cases: [(&str, &str, Change); 6] = [
        ("reference_values", "rim_mismatch", |mint| mint.realm.rim = digest(0x12)),
        ("nonce", "nonce_mismatch", |mint| mint.realm.challenge[0] ^= 1),
        ("realm_signature", "realm_signature_invalid", |mint| mint.rak = key(9)),
        ("platform_signature", "platform_signature_invalid", |mint| mint.cpak = key(9)),
        ("platform_signature", "trust_anchor_unknown", |mint| mint.platform.implementation_id = [0; 32]),
        ("lifecycle", "lifecycle_not_secured", |mint| mint.platform.lifecycle = Lifecycle(0x4000)),
    ];
    for (step, code, change) in cases {
        let challenge = instance.challenge(&[]).await;
        let mut mint = Mint::new(challenge.attested());
        change(&mut mint);
        let answer = instance.attest(&challenge, &mint, json!({})).await;
        assert_eq!(answer.problem(), problem(403, code));
        assert_eq!(answer.json()["step"], step);
    }
}

#[tokio::test]
async fn the_demo_policy_accepts_the_named_development_platform_only() {
    let (instance, _directory) = Instance::ready().await;
    let mut development = Mint::new([0; 64]);
    development.platform.instance_id[1] = 1;
    let anchor = |name: &str| {
        json!({
            "name": name,
            "implementation_id": hex::encode(development.platform.implementation_id),
            "instance_id": hex::encode(development.platform.instance_id),
            "public_key": development.public_key_pem(),
            "development": true,
        })
    };
    let exceptions: Value =
        serde_json::from_str(include_str!("../../../policies/demo_cca.exceptions.json")).unwrap();
    let policy = json!({
        "id": "default_cca.rego",
        "rego": include_str!("../../../policies/demo_cca.rego"),
        "exceptions": exceptions,
    });
    let attest = async || {
        let challenge = instance.challenge(&[]).await;
        let mut mint = development.clone();
        mint.realm.challenge = challenge.attested();
        mint.platform.lifecycle = Lifecycle(0x4000);
        instance.attest(&challenge, &mint, json!({})).await
    };
    // The anchor that `ready` registered has the name that the policy allows.
    instance.admin(Method::DELETE, "/trust-anchors/demo-platform", &json!(null)).await;
    instance.admin(Method::POST, "/trust-anchors", &anchor("demo-platform")).await;
    assert_eq!(attest().await.problem(), problem(403, "lifecycle_not_secured"));
    assert_eq!(instance.admin(Method::POST, "/policies", &policy).await.status, StatusCode::CREATED);
    assert_eq!(attest().await.status, StatusCode::OK);
    instance.admin(Method::DELETE, "/trust-anchors/demo-platform", &json!(null)).await;
    instance.admin(Method::POST, "/trust-anchors", &anchor("another")).await;
    assert_eq!(attest().await.problem(), problem(403, "lifecycle_not_secured"));
}

#[tokio::test]
async fn a_client_can_narrow_by_naming_policies_but_not_widen() {
    let (instance, _directory) = Instance::ready().await;
    let deny = json!({ "id": "deny.rego", "rego": "package attestation\noutput := {\"allow\": false}" });
    let allow = json!({ "id": "allow.rego", "rego": "package attestation\noutput := {\"allow\": true}" });
    for policy in [deny, allow] {
        assert_eq!(instance.admin(Method::POST, "/policies", &policy).await.status, StatusCode::CREATED);
    }
    let attest = async |policies: Value, lifecycle: u16| {
        let challenge = instance.challenge(&[]).await;
        let mut mint = Mint::new(challenge.attested());
        mint.platform.lifecycle = Lifecycle(lifecycle);
        instance.attest(&challenge, &mint, json!({ "policy_id": policies })).await
    };
    assert_eq!(attest(json!(["allow.rego"]), 0x3000).await.status, StatusCode::OK);
    assert_eq!(attest(json!(["deny.rego"]), 0x3000).await.problem(), problem(403, "policy_denied"));
    assert_eq!(attest(json!(["allow.rego"]), 0x4000).await.problem(), problem(403, "lifecycle_not_secured"));
    assert_eq!(attest(json!(["none.rego"]), 0x3000).await.problem(), problem(422, "policy_unknown"));
    assert_eq!(attest(json!(["../x"]), 0x3000).await.problem(), problem(422, "body_invalid"));
    assert_eq!(attest(json!(vec!["allow.rego"; 8]), 0x3000).await.status, StatusCode::OK);
    let too_many = attest(json!(vec!["allow.rego"; 9]), 0x3000).await;
    assert_eq!(too_many.problem(), problem(400, "too_many_policies"));

    let own =
        json!({ "id": "default_cca.rego", "rego": "package attestation\noutput := {\"allow\": false}" });
    assert_eq!(instance.admin(Method::POST, "/policies", &own).await.status, StatusCode::CREATED);
    assert_eq!(attest(json!(["allow.rego"]), 0x3000).await.problem(), problem(403, "policy_denied"));
}

#[tokio::test]
async fn a_resource_needs_a_token_with_a_confirmed_key() {
    let (instance, _directory) = Instance::ready().await;
    let challenge = instance.challenge(&[]).await;
    let bare = instance.attest(&challenge, &Mint::new(challenge.attested()), json!({})).await.text();
    assert_eq!(
        instance.resource(Method::POST, &bare, "disk-key").await.problem(),
        problem(403, "no_bound_key")
    );
    assert_eq!(
        instance.resource(Method::POST, "", "disk-key").await.problem(),
        problem(401, "token_invalid")
    );

    let body = json!({ "TeeGet": { "resource": { "vendor": "acme", "path": "disk-key" } } });
    let none = send(&instance.public, request(Method::POST, "/resource/storage", &body)).await;
    assert_eq!(none.problem(), problem(401, "token_missing"));
    assert_eq!(none.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_resource_needs_an_affirming_appraisal() {
    let (instance, _directory) = Instance::ready().await;
    let key = ephemeral_key();
    let mut claims: Claims = serde_json::from_value(claims(&instance.token(&key).await)).unwrap();
    claims.evaluation_reports.eval_result = false;
    let token = instance.service.tokens.sign(&claims, Algorithm::Es384).await.unwrap();
    let answer = instance.resource(Method::POST, &token, "disk-key").await;
    assert_eq!(answer.problem(), problem(403, "appraisal_not_affirming"));
}

#[tokio::test]
async fn a_resource_refuses_tokens_of_other_times_audiences_issuers_and_keys() {
    let (instance, directory) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    let good: Claims = serde_json::from_value(claims(&token)).unwrap();
    let tokens = &instance.service.tokens;

    let somebody_else = TokenSettings { audience: "somebody else".to_owned(), ..TokenSettings::default() };
    let other = Instance::open_with(&directory, SETTINGS, somebody_else).await;
    assert_eq!(
        other.resource(Method::POST, &token, "disk-key").await.problem(),
        problem(401, "token_audience")
    );

    let early = tokens.sign(&Claims { nbf: NOW + 1, ..good.clone() }, Algorithm::Es384).await.unwrap();
    assert_eq!(
        instance.resource(Method::POST, &early, "disk-key").await.problem(),
        problem(401, "token_expired")
    );
    let issuer =
        tokens.sign(&Claims { iss: "other".to_owned(), ..good.clone() }, Algorithm::Es384).await.unwrap();
    assert_eq!(
        instance.resource(Method::POST, &issuer, "disk-key").await.problem(),
        problem(401, "token_invalid")
    );

    let (stranger, _other_directory) = Instance::ready().await;
    let foreign = stranger.service.tokens.sign(&good, Algorithm::Es384).await.unwrap();
    assert_eq!(
        instance.resource(Method::POST, &foreign, "disk-key").await.problem(),
        problem(401, "token_invalid")
    );

    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut altered = claims(&token);
    altered["jti"] = json!("another");
    let altered =
        [&parts[0], &URL_SAFE_NO_PAD.encode(altered.to_string()), &parts[2]].map(String::as_str).join(".");
    let altered = instance.resource(Method::POST, &altered, "disk-key").await;
    assert_eq!(altered.problem(), problem(401, "token_invalid"), "the key is ours, and it did not sign this");
    parts[0] = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    parts[2] = String::new();
    let unsigned = instance.resource(Method::POST, &parts.join("."), "disk-key").await;
    assert_eq!(unsigned.problem(), problem(401, "token_invalid"));

    instance.clock.advance(299);
    assert_eq!(instance.resource(Method::POST, &token, "disk-key").await.status, StatusCode::OK);
    instance.clock.advance(1);
    assert_eq!(
        instance.resource(Method::POST, &token, "disk-key").await.problem(),
        problem(401, "token_expired")
    );
}

#[tokio::test]
async fn resource_names_are_plain_and_unknown_ones_are_not_found() {
    let (instance, _directory) = Instance::ready().await;
    let token = instance.token(&ephemeral_key()).await;
    assert_eq!(
        instance.resource(Method::POST, &token, "other").await.problem(),
        problem(404, "resource_unknown")
    );
    for path in ["", "../disk-key", "/disk-key", "disk-key/", "a\0b", &"x".repeat(65)] {
        let answer = instance.resource(Method::POST, &token, path).await;
        assert_eq!(answer.problem(), problem(400, "resource_name_invalid"), "{path:?}");
    }
}

#[tokio::test]
async fn malformed_requests_are_the_clients_fault_each_in_its_own_way() {
    let (instance, _directory) = Instance::ready().await;
    let session = instance.challenge(&[]).await;
    let json = "application/json";
    let large = "x".repeat(16 * 1024 * 1024 + 1);
    let deep = format!("{{\"more\":{}", "[".repeat(100_000));
    let cases = [
        ("POST", "/attestation", json, "", 400, "body_missing"),
        ("POST", "/attestation", json, "{", 400, "body_malformed"),
        ("POST", "/attestation", json, "\u{0}", 400, "body_malformed"),
        ("POST", "/attestation", json, deep.as_str(), 400, "body_malformed"),
        ("POST", "/attestation", json, "{}", 422, "body_invalid"),
        ("POST", "/attestation", json, r#"{"challenge":1,"evidence":""}"#, 422, "body_invalid"),
        ("POST", "/attestation", json, r#"{"challenge":"*","evidence":""}"#, 400, "challenge_malformed"),
        ("POST", "/attestation", json, r#"{"challenge":"AAAA","evidence":"*"}"#, 400, "evidence_malformed"),
        (
            "POST",
            "/attestation",
            json,
            r#"{"challenge":"AAAA","evidence":"AAAA"}"#,
            400,
            "evidence_malformed",
        ),
        (
            "POST",
            "/attestation",
            json,
            r#"{"challenge":"A","evidence":"","tee_key":{"kty":"RSA"}}"#,
            422,
            "body_invalid",
        ),
        ("POST", "/attestation", "text/plain", "{}", 415, "media_type_unsupported"),
        ("POST", "/attestation", json, large.as_str(), 413, "body_too_large"),
        ("GET", "/attestation", json, "", 405, "method_not_allowed"),
        ("GET", "/challenge", json, r#"{"user_data":[256]}"#, 422, "body_invalid"),
        ("GET", "/challenge", json, r#"{"user_data":[1],"more":1}"#, 422, "body_invalid"),
        ("GET", "/challenge?user_data=*", json, "", 400, "user_data_malformed"),
        ("GET", "/challenge?user_data=AA", json, r#"{"user_data":[1]}"#, 400, "user_data_twice"),
        ("GET", "/challenge?user_data=a&user_data=b", json, "", 400, "query_malformed"),
        ("GET", "/resource/storage", json, "", 400, "body_missing"),
        (
            "POST",
            "/resource/storage",
            json,
            r#"{"op":"Delete","resource":{"path":"p"}}"#,
            403,
            "admin_plane_only",
        ),
        ("GET", "/nothing", json, "", 404, "not_found"),
    ];
    for (method, path, media, body, status, code) in cases {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, media)
            .header(COOKIE, &session.cookie)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let answer = send(&instance.public, request).await;
        assert_eq!(
            answer.problem(),
            problem(status, code),
            "{method} {path} {}",
            &body[..body.len().min(80)]
        );
    }
    let long = request(Method::GET, "/challenge", &json!({ "user_data": vec![0; 33] }));
    assert_eq!(send(&instance.public, long).await.problem(), problem(400, "user_data_too_long"));
}

#[tokio::test]
async fn malformed_evidence_is_refused_by_the_decode_step() {
    let (instance, _directory) = Instance::ready().await;
    let challenge = instance.challenge(&[]).await;
    let envelope = json!({ "tee": "cca", "evidence": json!({ "token": [1, 2, 3] }).to_string() }).to_string();
    let body = json!({ "challenge": challenge.text, "evidence": URL_SAFE_NO_PAD.encode(envelope) });
    let mut request = request(Method::POST, "/attestation", &body);
    request.headers_mut().insert(COOKIE, challenge.cookie.parse().unwrap());
    assert_eq!(send(&instance.public, request).await.problem(), problem(403, "evidence_malformed"));
}

#[test]
fn the_harness_reaches_every_part_of_the_public_plane() {
    let harness = Harness::new().unwrap();
    let evidence = URL_SAFE_NO_PAD.encode(Mint::new([0; 64]).evidence().to_json());
    let body = json!({ "challenge": URL_SAFE_NO_PAD.encode(CHALLENGE), "evidence": evidence }).to_string();
    for _ in 0..2 {
        // 403 is the appraisal: the challenge was fresh, and nobody registered the platform.
        assert_eq!(harness.request(b"POST", "/attestation", "", body.as_bytes()), Some(403));
    }
    assert_eq!(harness.request(b"GET", "/challenge", "", b""), Some(200));
    let wanted = br#"{"TeeGet":{"resource":{"path":"p"}}}"#;
    assert_eq!(harness.request(b"POST", "/resource/storage", "a.b.c", wanted), Some(401));
    assert_eq!(harness.request(b"PO ST", "/", "", b""), None);
    assert_eq!(harness.request(b"GET", "/ ", "", b""), None);
}
