//! W8: what names something of another tenant is answered as if that were nowhere: with the same bytes, and after the
//! same statements to the database, so that the time does not tell either.

mod cases;
mod statements;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::StreamExt as _;
use gta_server::api::BASE;
use gta_server::model::Role;
use gta_server::service::Settings;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use service_kit::oidc::Issuers;
use verifier::testing::NOW;

use self::cases::{Case, NODE, Stage, cases, nothing};
use self::statements::Statements;
use crate::support::issuer::{Issuer, SigningKey};
use crate::support::{Client, OTHER, TENANT, World, described, strict};

/// Routes whose requests name the caller and nothing else, or a token, which has its own test.
const NAMELESS: [(&str, &str); 7] = [
    ("get", "/jwks"),
    ("get", "/openapi.json"),
    ("get", "/policy/built_in"),
    ("get", "/register"),
    ("get", "/whoami"),
    ("post", "/register"),
    ("post", "/token/verify"),
];

/// Every route: the method in small letters, and the path.
fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let paths = described()["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| (method.as_str(), path.as_str()))
    })
}

/// All of an answer, and what the database was asked for it.
#[derive(Debug, PartialEq)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    statements: Vec<String>,
}

impl Seen {
    async fn of(
        world: &World,
        statements: &Statements,
        headers: [(&str, &str); 2],
        (method, path): (&str, &str),
        (query, body): (&str, &Value),
    ) -> Self {
        statements.take();
        let mut request = Request::builder()
            .method(method.to_uppercase().parse::<Method>().unwrap())
            .uri(format!("{BASE}{path}{query}"))
            .header("Content-Type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = world.instance.respond(request.body(Body::from(body)).unwrap()).await;
        let (status, mut headers) = (response.status(), response.headers().clone());
        // Of what is random, it is random, too.
        headers.remove(CONTENT_LENGTH);
        let text = if headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
            beginning(statements, response.into_body()).await
        } else {
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        Self { status, headers, text, statements: statements.take() }
    }

    /// The same without what was named, and without what is random.
    fn without(mut self, named: &str, random: &[&str]) -> Self {
        let answer: Value = serde_json::from_str(&self.text).unwrap_or_default();
        for member in random {
            let Some(value) = answer.pointer(member) else { continue };
            let name = member.rsplit('/').next().unwrap();
            let shown = opened(value.as_str().unwrap_or_default());
            self.text = self.text.replace(&format!("\"{name}\":{value}"), &format!("\"{name}\":{shown}"));
        }
        // Of a number, any digit of the answer might be taken for it.
        if named.parse::<i64>().is_err() {
            self.text = self.text.replace(named, "<named>");
        }
        self
    }
}

/// What an event stream says until the database was asked twice.
async fn beginning(statements: &Statements, body: Body) -> String {
    let mut frames = body.into_data_stream();
    let mut text = String::new();
    while statements.count("FROM journal j JOIN documents") < 2 {
        if let Ok(frame) = tokio::time::timeout(Duration::from_millis(10), frames.next()).await {
            text.push_str(str::from_utf8(&frame.unwrap().unwrap()).unwrap());
        }
    }
    text
}

/// What is not random of a nonce or of a token; of other values, that they were there.
fn opened(value: &str) -> String {
    let json = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).ok();
    let token = value.split('.').nth(1).and_then(|payload| json(URL_SAFE_NO_PAD.decode(payload).ok()?));
    let Some(mut body) = token.or_else(|| json(STANDARD.decode(value).ok()?)).filter(Value::is_object) else {
        return "<random>".to_owned();
    };
    for member in ["value", "signature", "jti"] {
        body.as_object_mut().unwrap().remove(member);
    }
    body.to_string()
}

async fn asked(
    world: &World,
    statements: &Statements,
    credential: (&str, &str),
    case: &Case,
    named: &str,
) -> Seen {
    let headers = [("User-Id", OTHER), credential];
    let (query, body) = (case.request)(named);
    let seen = Seen::of(world, statements, headers, case.route, (&query, &body)).await;
    let problem: Value = serde_json::from_str(&seen.text).unwrap_or_default();
    let answered = (seen.status.as_u16(), problem["code"].as_str().unwrap_or_default());
    assert_eq!(answered, case.answered, "{:?} {}: {}", case.route, case.what, seen.text);
    seen.without(named, case.random)
}

#[tokio::test]
async fn what_is_another_tenants_is_as_if_it_were_nowhere() {
    let world = World::new().await;
    nothing_is_told(&world, ("API-Key", &world.other.key)).await;
}

#[tokio::test]
async fn nor_is_it_told_to_who_comes_with_a_token() {
    let key = SigningKey::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let issuers = Issuers::new(vec![issuer.config()]).unwrap();
    let world = World::with(Settings { issuers, ..strict() }).await;
    let identity = format!("sub:{}#alice", issuer.url).parse().unwrap();
    world.instance.service.add_identity(OTHER, Role::Admin, &identity, "test").await.unwrap();
    let bearer = format!("Bearer {}", key.sign(&issuer.claims("alice", NOW)));
    nothing_is_told(&world, ("Authorization", &bearer)).await;
}

async fn nothing_is_told(world: &World, credential: (&str, &str)) {
    let stage = Stage::new(world).await;
    let before = everything(world, &world.admin).await;
    let (statements, _guard) = Statements::of_this_thread();
    let cases = cases(&stage);
    for case in &cases {
        // What is kept in memory is there afterwards.
        asked(world, &statements, credential, case, &case.nothing[0]).await;
        let theirs = asked(world, &statements, credential, case, &case.theirs).await;
        let nothing = asked(world, &statements, credential, case, &case.nothing[1]).await;
        assert!(!nothing.statements.is_empty());
        assert_eq!(theirs, nothing, "{:?} {}", case.route, case.what);
    }
    let tried: BTreeSet<_> = cases.iter().map(|case| case.route).chain(NAMELESS).collect();
    assert_eq!(tried, routes().collect(), "every route has its cases");
    // Of what both have under one name, the histories are apart.
    let history = world.other.get(&world.instance, "/audit?kind=node").await.ok();
    let pinned = history["entries"].as_array().unwrap().iter().filter(|entry| entry["id"] == NODE);
    let pinned: Vec<&Value> = pinned.map(|entry| &entry["version"]).collect();
    assert_eq!(pinned, [&json!(1)]);
    for path in ["/policy", "/cert", "/ref_value", "/node"] {
        world.other.delete(&world.instance, path, &json!({ "delete_type": "all" })).await.ok();
    }
    assert_eq!(everything(world, &world.admin).await, before);
    // What was named and could have been used up was not.
    let activation = json!({ "enrollment_id": stage.enrolment, "credential": stage.credential });
    world.agent.post(&world.instance, "/enroll/activate", &activation).await.ok();
    let measurement = stage.machine.for_nonce(&stage.nonce, "tpm_boot");
    assert_eq!(world.result(world.attest(measurement).await).await.0, "pass");
}

/// What a tenant sees of itself.
async fn everything(world: &World, client: &Client) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in
        ["/policy", "/cert", "/cert?cert_type=crl", "/ref_value", "/node", "/status", "/event", "/audit"]
    {
        seen.push(client.get(&world.instance, path).await.ok());
    }
    seen
}

#[tokio::test]
async fn no_route_tells_a_tenants_name_or_a_keys_from_one_that_is_nowhere() {
    let world = World::new().await;
    let (statements, _guard) = Statements::of_this_thread();
    let (ours, theirs) = (world.other.key.as_str(), world.admin.key.as_str());
    let unknown = "a2345678901234567890123456789012";
    let [guessed, _] = nothing(theirs);
    let [tenant, _] = nothing(TENANT);
    for route in routes() {
        let ask = async |tenant: &str, key: &str| {
            let headers = [("User-Id", tenant), ("API-Key", key)];
            Seen::of(&world, &statements, headers, route, ("", &Value::Null)).await
        };
        let nowhere = ask(&tenant, ours).await;
        assert!(
            nowhere.status == 401 || ["/jwks", "/openapi.json"].contains(&route.1),
            "{route:?}: {nowhere:?}"
        );
        assert_eq!(ask(TENANT, ours).await, nowhere, "{route:?}: a tenant");
        assert_eq!(ask(OTHER, theirs).await, ask(OTHER, unknown).await, "{route:?}: a key");
        assert_eq!(ask(TENANT, &guessed).await, ask(TENANT, unknown).await, "{route:?}: the name of a key");
    }
}

/// A token is a document that says the same to whoever has it, with the published keys or without.
#[tokio::test]
async fn a_token_says_the_same_to_every_tenant() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    let token = world.attest(measurement).await.ok()["tokens"][0]["token"].clone();
    let (statements, _guard) = Statements::of_this_thread();
    let ask = async |client: &Client, token: &Value| {
        let headers = [("User-Id", client.tenant.as_str()), ("API-Key", client.key.as_str())];
        let body = json!({ "token": token });
        Seen::of(&world, &statements, headers, ("post", "/token/verify"), ("", &body)).await
    };
    let theirs = ask(&world.other, &token).await;
    assert!(theirs.text.contains("\"verification_pass\":true"), "{theirs:?}");
    assert_eq!(theirs, ask(&world.admin, &token).await);
}
