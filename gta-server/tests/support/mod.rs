//! A server in process, with a clock that tests set, and machines that talk to it.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

pub mod issuer;
mod machine;
mod tenant;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, StatusCode};
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gta_server::api::{BASE, description_of_all, router};
use gta_server::model::Role;
use gta_server::service::{Service, Settings};
use gta_server::store::Store;
use http_body_util::BodyExt as _;
use rcgen::PKCS_ECDSA_P384_SHA384;
use serde_json::{Value, json};
use service_kit::environment::{Clock, Environment, System};
use service_kit::serve::limit::{Limiter, Peer, Rate};
use service_kit::vault::{FileKey, MasterKey, Vault};
use tempfile::TempDir;
use tower::ServiceExt as _;
use verifier::testing::{Authority, NOW};

pub use machine::{BOOT, Machine, Signer, qualifying};
pub use tenant::Tenant;

pub const TENANT: &str = "acme";
pub const OTHER: &str = "umbrella";

/// What the server keeps its data in.
#[derive(Clone, Copy, Debug)]
pub enum Database {
    Sqlite,
    Postgres,
    Mariadb,
}

impl Database {
    /// An empty one; `directory` is for its file, if it is one.
    pub fn create(self, directory: &Path) -> String {
        let state = Path::new(env!("CARGO_TARGET_TMPDIR"));
        match self {
            Self::Sqlite => format!("sqlite:{}", directory.join("db").display()),
            Self::Postgres => test_databases::postgres(state).unwrap(),
            Self::Mariadb => test_databases::mariadb(state).unwrap(),
        }
    }
}

#[derive(Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Where instances live; those in one home are replicas.
pub struct Home {
    directory: TempDir,
    pub url: String,
    pub clock: ManualClock,
}

impl Home {
    pub fn new(database: Database) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = database.create(directory.path());
        Self { directory, url, clock: ManualClock(Arc::new(AtomicI64::new(NOW))) }
    }

    pub async fn open(&self, settings: Settings) -> Instance {
        self.open_under("key", &[], settings).await
    }

    /// An instance with a master key, and others of before.
    pub async fn open_under(&self, current: &str, old: &[&str], settings: Settings) -> Instance {
        let environment = Environment { clock: Arc::new(self.clock.clone()), entropy: Arc::new(System) };
        let key = |name: &str| -> Arc<dyn MasterKey> {
            let path = self.directory.path().join(name);
            Arc::new(FileKey::load_or_create(&path, &environment).unwrap())
        };
        let vault = Vault::new(key(current), old.iter().map(|name| key(name)).collect(), environment.clone());
        let store = Store::open(&self.url, vault, environment.clone()).await.unwrap();
        let service = Arc::new(Service::new(store, environment, settings));
        Instance { router: router(Arc::clone(&service), None, |_, _| {}), service }
    }

    /// Runs a statement as whoever holds the database; gives how many rows it changed.
    pub async fn sql(&self, statement: &'static str) -> u64 {
        use sqlx::Connection as _;
        if self.url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected()
        } else if self.url.starts_with("mariadb:") {
            let mut connection = sqlx::MySqlConnection::connect(&self.url).await.unwrap();
            sqlx::query("SET SESSION sql_mode = 'ANSI_QUOTES'").execute(&mut connection).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected()
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected()
        }
    }
}

/// One instance of the server.
pub struct Instance {
    router: Router,
    pub service: Arc<Service>,
}

impl Instance {
    /// The same, for a peer who may ask once.
    pub fn limited(&self) -> Self {
        let limiter = Limiter::new(Rate { per_second: 1, burst: 1 });
        let peer = Peer::from(std::net::IpAddr::from([192, 0, 2, 1]));
        let router = router(Arc::clone(&self.service), limiter, |_, _| {}).layer(Extension(peer));
        Self { router, service: Arc::clone(&self.service) }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    /// Status and machine code of a problem document, which also has the old members.
    #[track_caller]
    pub fn problem(&self) -> (u16, &str) {
        assert_eq!(self.body["message"], self.body["detail"], "{self:?}");
        assert_eq!(self.body["status"], self.status.as_u16());
        (self.status.as_u16(), self.body["code"].as_str().unwrap())
    }

    /// Asserts that the OpenAPI document has such an answer to this request.
    fn is_described(&self, method: &Method, path: &str, kind: Option<&str>) {
        let operation = &described()["paths"][path][method.as_str().to_lowercase()];
        if operation.is_null() {
            assert!(
                [404, 405].contains(&self.status.as_u16()) || path == "/health",
                "{method} {path}: {self:?}"
            );
            return;
        }
        let responses = &operation["responses"];
        let response = match &responses[self.status.as_str()] {
            Value::Null if !self.status.is_success() => &responses["default"],
            response => response,
        };
        let content = response.get("content").and_then(Value::as_object);
        let kinds: Vec<&str> = content.into_iter().flatten().map(|(kind, _)| kind.as_str()).collect();
        assert!(
            response.is_object() && kinds == kind.into_iter().collect::<Vec<_>>(),
            "{method} {path}: {kind:?} is not among {kinds:?}: {self:?}"
        );
        if !self.status.is_success() {
            let required = described()["components"]["schemas"]["ProblemDocument"]["required"].as_array();
            for member in required.unwrap() {
                assert!(self.body.get(member.as_str().unwrap()).is_some(), "{member}: {self:?}");
            }
        }
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap()
    }
}

impl Instance {
    /// Listens on a port of this machine, without TLS, until the test ends.
    pub async fn listen(&self) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        port
    }

    pub async fn send(&self, headers: &[(&str, &str)], method: Method, path: &str, body: &Value) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header("Content-Type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.answer(request.body(Body::from(text)).unwrap()).await
    }

    pub async fn respond(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn answer(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.respond(request).await;
        let (status, kind) = (response.status(), response.headers().get(CONTENT_TYPE).cloned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let answer = Answer { status, body };
        let kind = kind.as_ref().map(|kind| kind.to_str().unwrap());
        answer.is_described(&method, path.strip_prefix(BASE).unwrap_or(&path), kind);
        answer
    }
}

/// The OpenAPI document of the interface.
pub fn described() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(description_of_all()).unwrap());
    &DOCUMENT
}

/// Somebody with an API key.
#[derive(Clone)]
pub struct Client {
    pub tenant: String,
    pub key: String,
}

impl Client {
    pub async fn post(&self, instance: &Instance, path: &str, body: &Value) -> Answer {
        self.send(instance, Method::POST, path, body).await
    }

    pub async fn get(&self, instance: &Instance, path: &str) -> Answer {
        self.send(instance, Method::GET, path, &Value::Null).await
    }

    pub async fn delete(&self, instance: &Instance, path: &str, body: &Value) -> Answer {
        self.send(instance, Method::DELETE, path, body).await
    }

    pub async fn send(&self, instance: &Instance, method: Method, path: &str, body: &Value) -> Answer {
        instance.send(&[("User-Id", &self.tenant), ("API-Key", &self.key)], method, path, body).await
    }

    /// Sends a body as it is written.
    pub async fn post_text(&self, instance: &Instance, path: &str, body: String) -> Answer {
        let request = Request::post(format!("{BASE}{path}"))
            .header("Content-Type", "application/json")
            .header("User-Id", &self.tenant)
            .header("API-Key", &self.key)
            .body(Body::from(body));
        instance.answer(request.unwrap()).await
    }

    pub async fn nonce(&self, instance: &Instance, node: Option<&str>) -> String {
        let mut request = json!({ "attester_type": ["tpm_boot", "tpm_ima"] });
        if let Some(node) = node {
            request["node_id"] = json!(node);
        }
        let answer = self.post(instance, "/challenge", &request).await.ok();
        assert_eq!(answer["service_version"], "1.0");
        answer["nonce"].as_str().unwrap().to_owned()
    }
}

/// Bounds of tests: what others change is seen at once.
pub fn strict() -> Settings {
    Settings { fresh: Duration::ZERO, ..Settings::default() }
}

/// A server with two tenants, and the manufacturer whose machines the first has.
pub struct World {
    pub home: Home,
    pub instance: Instance,
    pub admin: Client,
    pub agent: Client,
    pub other: Client,
    pub maker: Authority,
}

impl World {
    pub async fn new() -> Self {
        Self::with(strict()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::on(crate::DATABASE, settings).await
    }

    pub async fn on(database: Database, settings: Settings) -> Self {
        Self::of(Home::new(database), settings).await
    }

    pub async fn of(home: Home, settings: Settings) -> Self {
        let instance = home.open(settings).await;
        let client = |tenant: &str, key: String| Client { tenant: tenant.to_owned(), key };
        let admin = client(TENANT, instance.service.add_tenant(TENANT, "test").await.unwrap());
        let agent = client(TENANT, instance.service.add_key(TENANT, Role::Agent, "test").await.unwrap());
        let other = client(OTHER, instance.service.add_tenant(OTHER, "test").await.unwrap());
        let maker = Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384);
        let certificate = json!({ "name": "maker", "type": ["tpm_ek"], "content": maker.pem() });
        admin.post(&instance, "/cert", &certificate).await.ok();
        Self { home, instance, admin, agent, other, maker }
    }

    /// A machine that is enrolled as `name`.
    pub async fn machine(&self, name: &str) -> Machine {
        let machine = Machine::new(name, &self.maker);
        machine.enrol(self).await.ok();
        machine
    }

    pub async fn attest(&self, measurement: Value) -> Answer {
        self.agent.post(&self.instance, "/attest", &json!({ "measurements": [measurement] })).await
    }

    /// What is in the token that an attestation gave, and its verdict.
    pub async fn result(&self, answer: Answer) -> (String, Value) {
        let answer = answer.ok();
        let first = &answer["tokens"][0];
        let verified =
            self.agent.post(&self.instance, "/token/verify", &json!({ "token": first["token"] })).await.ok();
        assert_eq!(verified["verification_pass"], true, "{verified}");
        (first["attestation_status"].as_str().unwrap().to_owned(), verified["token_body"].clone())
    }
}

impl Machine {
    pub async fn enrol(&self, world: &World) -> Answer {
        let begun = world.agent.post(&world.instance, "/enroll", &self.enrolment()).await.ok();
        let credential = STANDARD.encode(self.open(&begun).unwrap());
        let activation = json!({ "enrollment_id": begun["enrollment_id"], "credential": credential });
        world.agent.post(&world.instance, "/enroll/activate", &activation).await
    }

    /// A measurement of one type, right in everything.
    pub async fn good(&self, world: &World, kind: &str) -> Value {
        let nonce = world.agent.nonce(&world.instance, Some(&self.name)).await;
        self.for_nonce(&nonce, kind)
    }
}
