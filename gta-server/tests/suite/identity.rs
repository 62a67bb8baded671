//! W8: an issuer says who comes, and an operator whose that is. Neither is enough alone.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request};
use futures_util::StreamExt as _;
use gta_server::api::BASE;
use gta_server::model::Role;
use gta_server::service::Settings;
use gta_server::store::StoreError;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};
use service_kit::oidc::{IssuerConfig, Issuers};

use crate::support::issuer::{AUDIENCE, Issuer, Mood, SigningKey};
use crate::support::{Answer, OTHER, TENANT, World, strict};
use verifier::testing::NOW;

const POLICY: &str = "package verification\nresult := {\"policy_matched\": true}";

fn believing(configs: Vec<IssuerConfig>) -> Settings {
    Settings { issuers: Issuers::new(configs).unwrap(), ..strict() }
}

async fn world(issuer: &Issuer) -> World {
    World::with(believing(vec![issuer.config()])).await
}

async fn add(world: &World, tenant: &str, role: Role, identity: &str) {
    world.instance.service.add_identity(tenant, role, &identity.parse().unwrap(), "test").await.unwrap();
}

async fn remove(world: &World, tenant: &str, identity: &str) {
    assert!(world.instance.service.remove_identity(tenant, identity, "test").await.unwrap());
}

async fn send(world: &World, tenant: &str, token: &str, method: Method, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    world.instance.send(&[("User-Id", tenant), ("Authorization", &bearer)], method, path, body).await
}

async fn who(world: &World, tenant: &str, token: &str) -> Answer {
    send(world, tenant, token, Method::GET, "/whoami", &Value::Null).await
}

/// A world that believes an issuer with one key.
async fn world_of_one() -> (SigningKey, Issuer, World) {
    let key = SigningKey::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer).await;
    (key, issuer, world)
}

#[tokio::test]
async fn a_token_is_somebody_of_the_tenant_whose_operator_says_so() {
    let (key, issuer, world) = world_of_one().await;
    let token = key.sign(&issuer.claims("system:serviceaccount:acme:ci", NOW));
    let identity = format!("sub:{}#system:serviceaccount:acme:ci", issuer.url);
    let unknown = who(&world, TENANT, &token).await;
    assert_eq!(unknown.problem(), (403, "identity_unknown"));
    assert!(unknown.message().contains(&identity), "{unknown:?}");
    add(&world, TENANT, Role::Admin, &identity).await;
    let actor = format!("oidc:{}#system:serviceaccount:acme:ci", issuer.url);
    assert_eq!(
        who(&world, TENANT, &token).await.ok(),
        json!({ "User-Id": TENANT, "role": "admin", "actor": actor })
    );
    for tenant in [OTHER, "nobody"] {
        assert_eq!(who(&world, tenant, &token).await.problem(), (403, "identity_unknown"), "{tenant}");
    }
    // Beside a token, the header says whose somebody it is to be, and is not left out.
    let bearer = format!("Bearer {token}");
    let nameless =
        world.instance.send(&[("Authorization", &bearer)], Method::GET, "/whoami", &Value::Null).await;
    assert_eq!(nameless.problem(), (400, "user_id_invalid"));
    // Others of the same issuer, and the same one of another, are somebody else.
    for claims in [
        issuer.claims("system:serviceaccount:acme:c", NOW),
        issuer.claims("system:serviceaccount:acme:ci ", NOW),
        issuer.claims("system:serviceaccount:acme:CI", NOW),
    ] {
        assert_eq!(who(&world, TENANT, &key.sign(&claims)).await.problem(), (403, "identity_unknown"));
    }
    // What is changed is noted with who it was.
    let rego = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, POLICY);
    let policy =
        json!({ "name": "a", "attester_type": ["tpm_boot"], "content_type": "text", "content": rego });
    send(&world, TENANT, &token, Method::POST, "/policy", &policy).await.ok();
    let trail = world.admin.get(&world.instance, "/audit?kind=policy").await.ok();
    assert_eq!(trail["entries"][0]["actor"], actor.as_str());
    remove(&world, TENANT, &identity).await;
    assert_eq!(who(&world, TENANT, &token).await.problem(), (403, "identity_unknown"));
    let trail = world.admin.get(&world.instance, "/audit?kind=identity").await.ok();
    let changes: Vec<_> = trail["entries"].as_array().unwrap().iter().collect();
    let told: Vec<_> =
        changes.iter().map(|entry| (&entry["change"], &entry["id"], &entry["actor"])).collect();
    let (deleted, added, id, test) = (json!("deleted"), json!("added"), json!(identity), json!("test"));
    assert_eq!(told, [(&deleted, &id, &test), (&added, &id, &test)]);
    // One that comes again is another version, which no old row passes for.
    add(&world, TENANT, Role::Auditor, &identity).await;
    assert_eq!(who(&world, TENANT, &token).await.ok()["role"], "auditor");
    assert_eq!(
        send(&world, TENANT, &token, Method::POST, "/policy", &policy).await.problem(),
        (403, "role_missing")
    );
}

#[tokio::test]
async fn a_group_gives_its_role_unless_the_subject_has_one() {
    let (key, issuer, world) = world_of_one().await;
    let token = |groups: &Value| {
        let mut claims = issuer.claims("alice", NOW);
        claims["groups"] = groups.clone();
        key.sign(&claims)
    };
    let group = |name: &str| format!("group:{}#{name}", issuer.url);
    add(&world, TENANT, Role::Auditor, &group("/acme/look")).await;
    add(&world, TENANT, Role::Agent, &group("/acme/machines")).await;
    add(&world, TENANT, Role::Admin, &group("/acme/admins")).await;
    let role = async |groups: Value| {
        let answer = who(&world, TENANT, &token(&groups)).await;
        if answer.status == 200 {
            return answer.body["role"].as_str().unwrap().to_owned();
        }
        answer.problem().1.to_owned()
    };
    assert_eq!(role(json!(["/other", "/acme/look"])).await, "auditor");
    assert_eq!(role(json!("/acme/look")).await, "auditor");
    assert_eq!(role(json!(["/acme/look", "/acme/look"])).await, "auditor");
    assert_eq!(role(json!(["/acme/look", "/acme/machines"])).await, "identity_ambiguous");
    assert_eq!(role(json!(["/acme/look", "/acme/machines", "/acme/admins"])).await, "admin");
    for nobody in
        [json!([]), json!(null), json!({ "/acme/look": true }), json!([["/acme/look"]]), json!(["/acme"])]
    {
        assert_eq!(role(nobody.clone()).await, "identity_unknown", "{nobody}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("/{number}")).collect();
    assert_eq!(role(json!(many)).await, "identity_names");
    // The journal names the person.
    let answer = who(&world, TENANT, &token(&json!(["/acme/look"]))).await.ok();
    assert_eq!(answer["actor"], format!("oidc:{}#alice", issuer.url));
    // A subject is no group of the same name.
    assert_eq!(who(&world, TENANT, &key.sign(&issuer.claims("/acme/admins", NOW))).await.problem().0, 403);
    add(&world, TENANT, Role::RelyingParty, &format!("sub:{}#alice", issuer.url)).await;
    assert_eq!(role(json!(["/acme/admins"])).await, "relying-party");
    assert_eq!(role(json!(many)).await, "relying-party");
}

/// Every way in which a token can be wrong, each of an issuer that is believed and for somebody who is known.
#[tokio::test]
async fn a_token_that_does_not_hold_is_nobodys() {
    let (key, impostor, unpublished) =
        (SigningKey::new("one"), SigningKey::new("one"), SigningKey::new("two"));
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer).await;
    add(&world, TENANT, Role::Admin, &format!("sub:{}#alice", issuer.url)).await;
    let claims = |name: &str, value: Value| {
        let mut claims = issuer.claims("alice", NOW);
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = issuer.claims("alice", NOW);
        claims.as_object_mut().unwrap().remove(name);
        key.sign(&claims)
    };
    let header = |typ: Option<&str>| Header {
        typ: typ.map(str::to_owned),
        kid: Some("one".to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    let good = issuer.claims("alice", NOW);
    for typ in [None, Some("JWT"), Some("jwt"), Some("at+jwt"), Some("application/at+jwt")] {
        assert_eq!(who(&world, TENANT, &key.sign_with(&header(typ), &good)).await.ok()["role"], "admin");
    }
    assert_eq!(
        who(&world, TENANT, &key.sign(&claims("aud", json!([AUDIENCE, "b"])))).await.ok()["role"],
        "admin"
    );
    assert_eq!(who(&world, TENANT, &key.sign(&claims("exp", json!(NOW + 3600)))).await.ok()["role"], "admin");
    let signed = key.sign(&good);
    let (head, _) = signed.rsplit_once('.').unwrap();
    let payload = head.split_once('.').unwrap().1;
    let encode = |value: Value| {
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, value.to_string())
    };
    let hs256 = |secret: &[u8]| {
        let header = Header { kid: Some("one".to_owned()), ..Header::default() };
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let padded = claims("padding", json!("x".repeat(16 * 1024)));
    let mut taken = Vec::new();
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..header(None) };
    for (what, token) in [
        ("nothing", String::new()),
        ("no token", "alice".to_owned()),
        ("no claims", "a.b.c".to_owned()),
        ("deep claims", format!("{}.{}.a", head.split_once('.').unwrap().0, "W1tb".repeat(3000))),
        ("no signature", format!("{head}.")),
        ("unsigned", format!("{}.{payload}.", encode(json!({ "alg": "none", "typ": "JWT" })))),
        ("symmetric", hs256(key.public_pem().as_bytes())),
        ("symmetric with nothing", hs256(b"")),
        ("another key", impostor.sign(&good)),
        ("an unknown key", unpublished.sign(&good)),
        ("altered", signed.replace(payload, &encode(claims("groups", json!(["admins"]))))),
        ("a critical extension", key.sign_with(&critical, &good)),
        ("for a logout", key.sign_with(&header(Some("logout+jwt")), &good)),
        ("another issuer", key.sign(&claims("iss", json!("https://else.example")))),
        ("an issuer with a slash", key.sign(&claims("iss", json!(format!("{}/", issuer.url))))),
        ("no issuer", without("iss")),
        ("two issuers", key.sign(&claims("iss", json!([issuer.url])))),
        ("another audience", key.sign(&claims("aud", json!("gta-other")))),
        ("no audience", without("aud")),
        ("expired", key.sign(&claims("exp", json!(NOW)))),
        ("without end", without("exp")),
        ("an end in words", key.sign(&claims("exp", json!("never")))),
        ("without beginning", without("iat")),
        ("of the future", key.sign(&claims("nbf", json!(NOW + 61)))),
        ("for too long", key.sign(&claims("exp", json!(NOW + 3601)))),
        ("without subject", without("sub")),
        ("no text as subject", key.sign(&claims("sub", json!(1)))),
        ("an empty subject", key.sign(&claims("sub", json!("")))),
        ("a long subject", key.sign(&claims("sub", json!("a".repeat(256))))),
        ("two lines", key.sign(&claims("sub", json!("alice\nbob")))),
        ("long", key.sign(&padded)),
    ] {
        let answer = who(&world, TENANT, &token).await;
        if answer.status == 200 || answer.problem() != (401, "token_invalid") || answer.message().len() >= 500
        {
            taken.push((what, answer));
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
}

/// The server's own tokens are about machines. Who configures it as its own issuer makes nobody of them.
#[tokio::test]
async fn what_the_server_says_of_a_machine_lets_nobody_in() {
    const OWN: &str = "https://gta.example";
    let plain = World::new().await;
    let own = plain.home.open(Settings { issuer: OWN.to_owned(), ..strict() }).await;
    own.service.sign_token(Map::new()).await.unwrap();
    let keys = own.send(&[], Method::GET, "/jwks", &Value::Null).await.ok();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, keys.to_string()).unwrap();
    let config = IssuerConfig {
        issuer: OWN.to_owned(),
        audience: AUDIENCE.to_owned(),
        jwks_file: Some(path),
        ca: None,
        groups_claim: None,
        max_lifetime: 3600,
        refresh_interval: 1,
    };
    let claims = json!({ "aud": AUDIENCE, "sub": "alice" });
    let claims = claims.as_object().unwrap();
    add(&plain, TENANT, Role::Admin, &format!("sub:{OWN}#alice")).await;
    // It is for being its own that it is refused.
    for (issuer, expected) in [(OWN, 401), ("https://another.example", 200)] {
        let settings = Settings { issuer: issuer.to_owned(), ..believing(vec![config.clone()]) };
        let instance = plain.home.open(settings).await;
        let token = own.service.sign_token(claims.clone()).await.unwrap();
        let bearer = format!("Bearer {token}");
        let headers = [("User-Id", TENANT), ("Authorization", bearer.as_str())];
        let answer = instance.send(&headers, Method::GET, "/whoami", &Value::Null).await;
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    // A token about a machine has no audience and no subject either.
    let machine = plain.machine("node-1").await;
    let measurement = machine.good(&plain, "tpm_boot").await;
    let token = plain.attest(measurement).await.ok()["tokens"][0]["token"].clone();
    let answer = who(&plain, TENANT, token.as_str().unwrap()).await;
    assert_eq!(answer.problem(), (401, "token_invalid"));
}

#[tokio::test]
async fn one_who_comes_twice_is_not_guessed() {
    let (key, issuer, world) = world_of_one().await;
    add(&world, TENANT, Role::Admin, &format!("sub:{}#alice", issuer.url)).await;
    let bearer = format!("Bearer {}", key.sign(&issuer.claims("alice", NOW)));
    let api_key = world.admin.key.as_str();
    let send = async |headers: &[(&str, &str)]| {
        let mut all = vec![("User-Id", TENANT)];
        all.extend(headers);
        world.instance.send(&all, Method::GET, "/whoami", &Value::Null).await
    };
    for headers in [
        [("Authorization", bearer.as_str()), ("API-Key", api_key)],
        [("Authorization", "Bearer x"), ("API-Key", api_key)],
        [("Authorization", &bearer), ("API-Key", "")],
        [("Authorization", &bearer), ("Authorization", &bearer)],
        [("Authorization", "Basic YTpi"), ("Authorization", &bearer)],
    ] {
        assert_eq!(send(&headers).await.problem(), (400, "credentials_ambiguous"), "{headers:?}");
    }
    // What a proxy asked for is not for the server.
    send(&[("Authorization", "Basic YTpi"), ("API-Key", api_key)]).await.ok();
    assert_eq!(send(&[("Authorization", "Basic YTpi")]).await.problem(), (400, "api_key_invalid"));
    send(&[("authorization", &bearer.replace("Bearer", "bEARER"))]).await.ok();
}

#[tokio::test]
async fn who_comes_with_a_token_takes_no_key_that_outlives_it() {
    let (key, issuer, world) = world_of_one().await;
    add(&world, TENANT, Role::Admin, &format!("sub:{}#alice", issuer.url)).await;
    let token = key.sign(&issuer.claims("alice", NOW));
    for method in [Method::POST, Method::GET] {
        let answer = send(&world, TENANT, &token, method, "/register", &Value::Null).await;
        assert_eq!(answer.problem(), (403, "api_key_missing"));
    }
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_token_the_identity_and_the_role() {
    let (key, issuer, world) = world_of_one().await;
    let identity = format!("sub:{}#alice", issuer.url);
    let stream = async |token: &str| {
        let request = Request::get(format!("{BASE}/event/stream"))
            .header("User-Id", TENANT)
            .header("Authorization", format!("Bearer {token}"))
            .body(Body::empty());
        let response = world.instance.respond(request.unwrap()).await;
        assert_eq!(response.status(), 200);
        response.into_body().into_data_stream()
    };
    let role = async || {
        remove(&world, TENANT, &identity).await;
        add(&world, TENANT, Role::RelyingParty, &identity).await;
    };
    for end in ["identity", "role", "token"] {
        add(&world, TENANT, Role::Auditor, &identity).await;
        let token = key.sign(&issuer.claims("alice", world.instance.service.now()));
        let mut frames = stream(&token).await;
        let waiting = tokio::time::timeout(Duration::from_millis(1500), frames.next()).await;
        assert!(waiting.is_err(), "{end}: {waiting:?}");
        match end {
            "identity" => remove(&world, TENANT, &identity).await,
            "role" => role().await,
            _ => world.home.clock.advance(300),
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), frames.next()).await;
        assert!(ended.as_ref().is_ok_and(Option::is_none), "{end}: {ended:?}");
        if end != "identity" {
            remove(&world, TENANT, &identity).await;
        }
    }
}

#[tokio::test]
async fn a_new_key_is_found_and_one_that_is_taken_back_is_gone() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let issuer = Issuer::start(&[&old]).await;
    let world = world(&issuer).await;
    add(&world, TENANT, Role::Admin, &format!("sub:{}#alice", issuer.url)).await;
    let claims = issuer.claims("alice", NOW);
    let status = async |key: &SigningKey| who(&world, TENANT, &key.sign(&claims)).await.status.as_u16();
    assert_eq!(status(&old).await, 200);
    assert_eq!((status(&old).await, issuer.asked()), (200, 1));
    // Names that nobody has are not looked for as often as they are made up.
    let began = Instant::now();
    for number in 0..50 {
        assert_eq!(status(&SigningKey::new(&number.to_string())).await, 401);
    }
    let most = 1 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(issuer.asked() <= most, "{} > {most}", issuer.asked());
    issuer.publish(&[&new]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let asked = issuer.asked();
    // Those who come at the same time look together.
    let several = futures_util::future::join_all((0..8).map(|_| status(&new))).await;
    assert_eq!(several, [200; 8]);
    assert_eq!(issuer.asked(), asked + 1);
    assert_eq!(status(&old).await, 401);
    // A key of the same name, as issuers without names for keys have.
    let renewed = SigningKey::new("new");
    issuer.publish(&[&renewed]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!((status(&renewed).await, status(&new).await), (200, 401));
    // While nobody answers, what is known holds.
    issuer.set_mood(Mood::Broken);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!((status(&old).await, status(&renewed).await), (401, 200));
}

/// Those who do not wait for the answer do not have the issuer asked more often.
#[tokio::test]
async fn who_gives_up_does_not_end_the_look_for_others() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let issuer = Issuer::start(&[&old]).await;
    let config = IssuerConfig { refresh_interval: 3, ..issuer.config() };
    let world = World::with(believing(vec![config])).await;
    add(&world, TENANT, Role::Admin, &format!("sub:{}#alice", issuer.url)).await;
    let claims = issuer.claims("alice", NOW);
    assert_eq!(who(&world, TENANT, &old.sign(&claims)).await.status, 200);
    issuer.publish(&[&new]);
    issuer.set_mood(Mood::Slow);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let (token, asked) = (new.sign(&claims), issuer.asked());
    for _ in 0..5 {
        let hasty = tokio::time::timeout(Duration::from_millis(100), who(&world, TENANT, &token)).await;
        if hasty.is_ok() {
            break;
        }
    }
    assert_eq!(who(&world, TENANT, &token).await.status, 200);
    assert_eq!(issuer.asked(), asked + 1);
}

#[tokio::test]
async fn an_issuer_that_cannot_be_asked_is_unavailable_and_nobody_is_let_in() {
    let key = SigningKey::new("one");
    let mut believed = Vec::new();
    for mood in [Mood::Redirecting, Mood::Lying, Mood::Endless, Mood::Clear, Mood::Broken] {
        let issuer = Issuer::start(&[&key]).await;
        issuer.set_mood(mood);
        let world = world(&issuer).await;
        add(&world, TENANT, Role::Admin, &format!("sub:{}#alice", issuer.url)).await;
        let token = key.sign(&issuer.claims("alice", NOW));
        let answer = who(&world, TENANT, &token).await;
        if answer.status == 200 || answer.problem() != (503, "issuer_unavailable") {
            believed.push((mood, answer));
            continue;
        }
        issuer.set_mood(Mood::Honest);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        who(&world, TENANT, &token).await.ok();
    }
    assert!(believed.is_empty(), "{believed:#?}");
    // Whoever has another certificate is not the issuer.
    let (issuer, other) = (Issuer::start(&[&key]).await, Issuer::start(&[&key]).await);
    for ca in [Some(other.certificate()), None] {
        let world = World::with(believing(vec![IssuerConfig { ca, ..issuer.config() }])).await;
        let token = key.sign(&issuer.claims("alice", NOW));
        assert_eq!(who(&world, TENANT, &token).await.problem(), (503, "issuer_unavailable"));
    }
}

#[tokio::test]
async fn two_issuers_are_apart() {
    let (key, other) = (SigningKey::new("one"), SigningKey::new("one"));
    let (first, second) = (Issuer::start(&[&key]).await, Issuer::start(&[&other]).await);
    let world = World::with(believing(vec![first.config(), second.config()])).await;
    add(&world, TENANT, Role::Admin, &format!("sub:{}#alice", first.url)).await;
    add(&world, OTHER, Role::Admin, &format!("sub:{}#alice", second.url)).await;
    who(&world, TENANT, &key.sign(&first.claims("alice", NOW))).await.ok();
    who(&world, OTHER, &other.sign(&second.claims("alice", NOW))).await.ok();
    // The one says what only the other may say.
    assert_eq!(
        who(&world, TENANT, &other.sign(&first.claims("alice", NOW))).await.problem().1,
        "token_invalid"
    );
    let theirs = who(&world, TENANT, &other.sign(&second.claims("alice", NOW))).await;
    assert_eq!(theirs.problem(), (403, "identity_unknown"));
}

#[tokio::test]
async fn an_identity_that_was_made_behind_the_services_back_is_none() {
    let (key, issuer, world) = world_of_one().await;
    let identity = format!("sub:{}#alice", issuer.url);
    add(&world, TENANT, Role::Agent, &identity).await;
    let token = key.sign(&issuer.claims("alice", NOW));
    who(&world, TENANT, &token).await.ok();
    let tampered = async || {
        assert_eq!(who(&world, TENANT, &token).await.problem(), (503, "integrity_violation"));
        let report = world.instance.service.store.fsck(&[]).await.unwrap();
        assert!(report.broken.iter().any(|broken| broken.table == "identity"), "{report:?}");
    };
    let sql = async |statement| assert_eq!(world.home.sql(statement).await, 1);
    sql("UPDATE documents SET body = REPLACE(body, 'agent', 'admin') WHERE kind = 'identity'").await;
    tampered().await;
    sql("UPDATE documents SET body = REPLACE(body, 'admin', 'agent') WHERE kind = 'identity'").await;
    who(&world, TENANT, &token).await.ok();
    sql("UPDATE documents SET tenant = 'umbrella' WHERE kind = 'identity'").await;
    tampered().await;
    assert_eq!(who(&world, OTHER, &token).await.problem(), (503, "integrity_violation"));
}

#[tokio::test]
async fn a_tenant_has_as_many_identities_as_it_may() {
    let world = World::with(Settings { max_identities: 1, ..strict() }).await;
    let service = &world.instance.service;
    let add = async |tenant: &str, identity: &str| {
        service.add_identity(tenant, Role::Agent, &identity.parse().unwrap(), "test").await
    };
    assert!(matches!(add("nobody", "dns:a").await, Err(StoreError::Conflict(_))));
    add(TENANT, "dns:a").await.unwrap();
    assert!(matches!(add(TENANT, "dns:b").await, Err(StoreError::Full(_))));
    add(OTHER, "dns:a").await.unwrap();
    assert!(matches!(add(OTHER, "dns:a").await, Err(StoreError::Full(_))));
    assert!(!service.remove_identity(TENANT, "dns:b", "test").await.unwrap());
    let roomy = world.home.open(strict()).await;
    let again = roomy.service.add_identity(TENANT, Role::Admin, &"dns:a".parse().unwrap(), "test").await;
    assert!(matches!(again, Err(StoreError::Exists(_))));
}
