//! W8: a certificate says who holds its key, and an operator whose that is. How certificates are verified, tests of the
//! program show.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use futures_util::StreamExt as _;
use gta_server::api::BASE;
use gta_server::model::Role;
use gta_server::service::Settings;
use serde_json::{Value, json};
use service_kit::oidc::Issuers;
use service_kit::serve::ClientCertificate;
use verifier::testing::NOW;

use crate::support::issuer::{Issuer, SigningKey};
use crate::support::{Answer, OTHER, TENANT, World, strict};

/// A certificate with these names.
fn certificate(uris: &[&str], dns: &[&str], subject: Option<&str>) -> ClientCertificate {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ClientCertificate {
        uris: owned(uris),
        dns: owned(dns),
        subject: subject.map(str::to_owned),
        not_after: NOW + 300,
    }
}

fn spiffe() -> ClientCertificate {
    certificate(&["spiffe://example.org/acme/ci"], &[], None)
}

async fn add(world: &World, tenant: &str, role: Role, identity: &str) {
    world.instance.service.add_identity(tenant, role, &identity.parse().unwrap(), "test").await.unwrap();
}

fn request(
    certificate: &ClientCertificate,
    tenant: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{BASE}{path}"))
        .extension(certificate.clone())
        .header("User-Id", tenant);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn who(
    world: &World,
    certificate: &ClientCertificate,
    tenant: &str,
    headers: &[(&str, &str)],
) -> Answer {
    world.instance.answer(request(certificate, tenant, Method::GET, "/whoami", headers)).await
}

#[tokio::test]
async fn a_certificate_is_somebody_of_the_tenant_whose_operator_says_so() {
    let world = World::new().await;
    let unknown = who(&world, &spiffe(), TENANT, &[]).await;
    assert_eq!(unknown.problem(), (403, "identity_unknown"));
    assert!(unknown.message().contains("uri:spiffe://example.org/acme/ci"), "{unknown:?}");
    let identity = "uri:spiffe://example.org/acme/ci";
    add(&world, TENANT, Role::Auditor, identity).await;
    let answer = who(&world, &spiffe(), TENANT, &[]).await.ok();
    assert_eq!(answer, json!({ "User-Id": TENANT, "role": "auditor", "actor": format!("cert:{identity}") }));
    assert_eq!(who(&world, &spiffe(), OTHER, &[]).await.problem(), (403, "identity_unknown"));
    for other in [
        certificate(&["spiffe://example.org/acme/ci/"], &[], None),
        certificate(&["spiffe://example.org/acme/CI"], &[], None),
        certificate(&[], &["spiffe://example.org/acme/ci"], None),
        certificate(&[], &[], Some("spiffe://example.org/acme/ci")),
        certificate(&[], &[], None),
    ] {
        assert_eq!(who(&world, &other, TENANT, &[]).await.problem(), (403, "identity_unknown"), "{other:?}");
    }
    let denied = world.instance.answer(request(&spiffe(), TENANT, Method::POST, "/register", &[])).await;
    assert_eq!(denied.problem(), (403, "api_key_missing"));
    // It is as long as it is valid, however long the connection stands.
    world.home.clock.advance(300);
    assert_eq!(who(&world, &spiffe(), TENANT, &[]).await.problem(), (401, "certificate_expired"));
    let renewed = ClientCertificate { not_after: NOW + 600, ..spiffe() };
    who(&world, &renewed, TENANT, &[]).await.ok();
    assert!(world.instance.service.remove_identity(TENANT, identity, "test").await.unwrap());
    assert_eq!(who(&world, &renewed, TENANT, &[]).await.problem(), (403, "identity_unknown"));
}

#[tokio::test]
async fn names_of_a_certificate_are_told_apart_and_agree() {
    let world = World::new().await;
    add(&world, TENANT, Role::Agent, "dns:node-1.acme.example").await;
    add(&world, TENANT, Role::Auditor, "dn:CN=alice,O=Acme").await;
    add(&world, TENANT, Role::Admin, "uri:spiffe://example.org/admin").await;
    let role = async |certificate: &ClientCertificate| {
        let answer = who(&world, certificate, TENANT, &[]).await;
        if answer.status == 200 {
            return answer.body["actor"].as_str().unwrap().to_owned();
        }
        answer.problem().1.to_owned()
    };
    let alice = Some("CN=alice,O=Acme");
    assert_eq!(
        role(&certificate(&[], &["other", "node-1.acme.example"], None)).await,
        "cert:dns:node-1.acme.example"
    );
    assert_eq!(role(&certificate(&[], &[], alice)).await, "cert:dn:CN=alice,O=Acme");
    assert_eq!(role(&certificate(&[], &["node-1.acme.example"], alice)).await, "identity_ambiguous");
    let all = certificate(&["spiffe://example.org/admin"], &["node-1.acme.example"], alice);
    assert_eq!(role(&all).await, "cert:uri:spiffe://example.org/admin");
    // A subject that only reads like another one.
    assert_eq!(role(&certificate(&[], &[], Some("CN=alice\\,O=Acme"))).await, "identity_unknown");
    let many: Vec<String> = (0..65).map(|number| format!("{number}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(role(&certificate(&[], &many, None)).await, "identity_names");
}

#[tokio::test]
async fn who_comes_with_a_certificate_and_something_else_is_of_the_tenant_by_both() {
    let key = SigningKey::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let issuers = Issuers::new(vec![issuer.config()]).unwrap();
    let world = World::with(Settings { issuers, ..strict() }).await;
    let alice = format!("sub:{}#alice", issuer.url);
    add(&world, TENANT, Role::Auditor, &alice).await;
    let bearer = format!("Bearer {}", key.sign(&issuer.claims("alice", NOW)));
    let token = [("Authorization", bearer.as_str())];
    let api_key = [("API-Key", world.agent.key.as_str())];
    let ask = async |headers: &[(&str, &str)]| who(&world, &spiffe(), TENANT, headers).await;
    // A good certificate of somebody else: of nobody, or of another tenant.
    for tenant in [None, Some(OTHER)] {
        if let Some(tenant) = tenant {
            add(&world, tenant, Role::Admin, "uri:spiffe://example.org/acme/ci").await;
        }
        for headers in [&token, &api_key] {
            assert_eq!(ask(headers).await.problem(), (401, "credentials_conflict"), "{tenant:?}");
        }
    }
    // Of the same tenant, the token or key decides.
    add(&world, TENANT, Role::Admin, "uri:spiffe://example.org/acme/ci").await;
    let answer = ask(&token).await.ok();
    assert_eq!(
        (&answer["role"], &answer["actor"]),
        (&json!("auditor"), &json!(format!("oidc:{}#alice", issuer.url)))
    );
    assert_eq!(ask(&api_key).await.ok()["role"], "agent");
    assert_eq!(ask(&[]).await.ok()["role"], "admin");
    // A certificate makes nothing good of what is wrong beside it.
    for wrong in [
        [("Authorization", "Bearer x")].as_slice(),
        &[("API-Key", "a2345678901234567890123456789012")],
        &[("API-Key", "")],
        &[("API-Key", world.other.key.as_str())],
        &[("Authorization", &bearer), ("API-Key", world.agent.key.as_str())],
    ] {
        let answer = ask(wrong).await;
        assert!([400, 401].contains(&answer.status.as_u16()), "{wrong:?}: {answer:?}");
    }
    world.home.clock.advance(300);
    assert_eq!(ask(&api_key).await.problem(), (401, "certificate_expired"));
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_certificate_even_beside_a_key() {
    let world = World::new().await;
    let identity = "uri:spiffe://example.org/acme/ci";
    let auditor = world.instance.service.add_key(TENANT, Role::Auditor, "test").await.unwrap();
    let api_key = [("API-Key", auditor.as_str())];
    for (headers, end) in
        [(&[][..], "identity"), (&api_key, "identity"), (&[], "certificate"), (&api_key, "certificate")]
    {
        add(&world, TENANT, Role::Auditor, identity).await;
        let certificate = ClientCertificate { not_after: world.instance.service.now() + 300, ..spiffe() };
        let asked = request(&certificate, TENANT, Method::GET, "/event/stream", headers);
        let response = world.instance.respond(asked).await;
        assert_eq!(response.status(), 200);
        let mut frames = response.into_body().into_data_stream();
        let waiting = tokio::time::timeout(Duration::from_millis(1500), frames.next()).await;
        assert!(waiting.is_err(), "{end}: {waiting:?}");
        if end == "certificate" {
            world.home.clock.advance(300);
        } else {
            assert!(world.instance.service.remove_identity(TENANT, identity, "test").await.unwrap());
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), frames.next()).await;
        assert!(ended.as_ref().is_ok_and(Option::is_none), "{end}: {ended:?}");
        if end == "certificate" {
            assert!(world.instance.service.remove_identity(TENANT, identity, "test").await.unwrap());
        }
    }
    // The key by itself is as good as before.
    let headers = [("User-Id", TENANT), api_key[0]];
    world.instance.send(&headers, Method::GET, "/policy", &Value::Null).await.ok();
}
