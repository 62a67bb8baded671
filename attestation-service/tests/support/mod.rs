//! A service in process, with a clock that tests set, and the guest that talks to it.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod process;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use attestation_service::admin::identity::{Operator, Role};
use attestation_service::authorities::Authorities;
use attestation_service::environment::{Clock, Environment, System};
use attestation_service::metrics::Metrics;
use attestation_service::service::{Service, Settings};
use attestation_service::store::Store;
use attestation_service::token::{TokenSettings, Tokens};
use attestation_service::vault::{FileKey, Vault};
use attestation_service::{admin, public};
use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use jose::{Curve, EphemeralKey};
use mint::Mint;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
pub use verifier::testing as mint;

pub const NOW: i64 = 1_800_000_000;
pub const SETTINGS: Settings = Settings { challenge_lifetime: 300, max_challenges: 1000 };
pub const SECRET: &[u8] = b"the disk key";

/// What the service keeps its data in.
#[derive(Clone, Copy, Debug)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// Where instances live; those in one home are replicas.
pub struct Home {
    /// Taken by the home that follows this one.
    directory: Option<TempDir>,
    pub url: String,
}

impl Home {
    pub fn new() -> Self {
        Self::with(crate::DATABASE)
    }

    pub fn with(database: Database) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = match database {
            Database::Sqlite => format!("sqlite:{}", directory.path().join("db").display()),
            Database::Postgres => test_databases::postgres(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap(),
        };
        Self { directory: Some(directory), url }
    }

    pub fn path(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// How many rows the tables have that names are in.
    pub async fn tables(&self) -> Vec<i64> {
        use sqlx::Connection as _;
        const COUNT: &str =
            "SELECT (SELECT count(*) FROM trust_anchors) + (SELECT count(*) FROM trust_bundles)
            + (SELECT count(*) FROM crls) + (SELECT count(*) FROM reference_values)
            + (SELECT count(*) FROM named_references) + (SELECT count(*) FROM policies)
            + (SELECT count(*) FROM resource_policies) + (SELECT count(*) FROM resources)";
        if self.url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(COUNT).fetch_all(&mut connection).await.unwrap()
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(COUNT).fetch_all(&mut connection).await.unwrap()
        }
    }

    /// Runs a statement as whoever holds the database.
    pub async fn sql(&self, statement: &'static str) -> Result<(), String> {
        use sqlx::Connection as _;
        let done = if self.url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.map(drop)
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.map(drop)
        };
        done.map_err(|error| error.to_string())
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

/// The published key set.
pub async fn jwks(instance: &Instance) -> Value {
    send(&instance.public, request(Method::GET, "/.well-known/jwks.json", &json!(null))).await.json()
}

/// The name of the key that signed `token`.
pub fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// One instance of the service.
#[derive(Clone)]
pub struct Instance {
    pub service: Arc<Service>,
    pub public: Router,
    pub clock: ManualClock,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Whether the service asks to try again later.
    pub fn is_overload(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT)
    }

    /// Status and machine code of a problem document.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{}", self.text());
        let problem = self.json();
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("urn:redoubt:problem:{code}"));
        assert_eq!(problem["status"], self.status.as_u16());
        (self.status.as_u16(), code.to_owned())
    }
}

/// A challenge and the session it belongs to.
#[derive(Clone)]
pub struct Challenge {
    pub text: String,
    pub cookie: String,
}

impl Challenge {
    /// As the TEE attests it.
    pub fn attested(&self) -> [u8; 64] {
        let bytes = URL_SAFE_NO_PAD.decode(&self.text).unwrap();
        let mut padded = [0; 64];
        padded[..bytes.len()].copy_from_slice(&bytes);
        padded
    }
}

pub fn ephemeral_key() -> EphemeralKey {
    EphemeralKey::generate(Curve::P384, &mut rand::rng())
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub fn request(method: Method, path: &str, body: &Value) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

impl Instance {
    /// An instance on the database of `home`.
    pub async fn open(home: &Home) -> Self {
        Self::open_with(home, SETTINGS, TokenSettings::default()).await
    }

    pub async fn open_with(home: &Home, settings: Settings, tokens: TokenSettings) -> Self {
        let clock = ManualClock(Arc::new(AtomicI64::new(NOW)));
        let environment = Environment { clock: Arc::new(clock.clone()), entropy: Arc::new(System) };
        let store = Store::open(&home.url).await.unwrap();
        let master = FileKey::load_or_create(&home.path().join("master.key"), &environment).unwrap();
        let vault = Vault::new(Arc::new(master), Vec::new(), environment.clone());
        let service = Arc::new(Service {
            tokens: Tokens::new(store.clone(), vault.clone(), environment.clone(), tokens),
            store,
            vault,
            environment,
            settings,
            authorities: Authorities::default(),
            rego: verifier::rego::RegoCache::default(),
            metrics: Metrics::default(),
        });
        let public = public::router(Arc::clone(&service));
        Self { service, public, clock }
    }

    /// An instance that knows the platform and the Realm of [`Mint::new`] and has a resource `acme/disk-key`.
    pub async fn ready() -> (Self, Home) {
        let home = Home::new();
        let instance = Self::open(&home).await;
        instance.register(&Mint::new([0; 64])).await;
        (instance, home)
    }

    pub async fn register(&self, mint: &Mint) {
        for (path, document) in [
            (
                "/trust-anchors",
                json!({
                    "name": mint::ANCHOR,
                    "implementation_id": hex::encode(mint.platform.implementation_id),
                    "instance_id": hex::encode(mint.platform.instance_id),
                    "public_key": mint.public_key_pem(),
                }),
            ),
            ("/references", json!({ "name": "guest", "rim": mint.realm.rim })),
            (
                "/resources",
                json!({
                    "name": "acme/disk-key",
                    "content": base64::engine::general_purpose::STANDARD.encode(SECRET),
                    "policies": ["oeas/affirming.rego"],
                }),
            ),
        ] {
            let answer = self.admin(Method::POST, path, &document).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        }
    }

    pub async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.admin_as(Some(&[Role::Admin]), method, path, body).await
    }

    /// As an operator with these roles, or as nobody.
    pub async fn admin_as(&self, roles: Option<&[Role]>, method: Method, path: &str, body: &Value) -> Answer {
        let mut request = request(method, path, body);
        if let Some(roles) = roles {
            request
                .extensions_mut()
                .insert(Operator { name: "test:operator".to_owned(), roles: roles.to_vec() });
        }
        send(&admin::router(Arc::clone(&self.service)), request).await
    }

    pub async fn challenge(&self, user_data: &[u8]) -> Challenge {
        self.try_challenge(user_data).await.expect("the service is not overloaded")
    }

    /// None if the service has too much to do.
    pub async fn try_challenge(&self, user_data: &[u8]) -> Option<Challenge> {
        let answer =
            send(&self.public, request(Method::GET, "/challenge", &json!({ "user_data": user_data }))).await;
        if answer.is_overload() {
            return None;
        }
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
        Some(Challenge {
            text: serde_json::from_slice(&answer.body).unwrap(),
            cookie: cookie.split(';').next().unwrap().to_owned(),
        })
    }

    pub async fn attest(&self, challenge: &Challenge, mint: &Mint, extra: Value) -> Answer {
        let mut body = json!({
            "challenge": challenge.text,
            "evidence": URL_SAFE_NO_PAD.encode(mint.evidence().to_json()),
        });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let mut request = request(Method::POST, "/attestation", &body);
        request.headers_mut().insert(COOKIE, challenge.cookie.parse().unwrap());
        send(&self.public, request).await
    }

    /// The same for a task of its own.
    pub fn attesting(
        &self,
        challenge: &Challenge,
        mint: &Mint,
        extra: Value,
    ) -> impl Future<Output = Answer> + use<> {
        let (instance, challenge, mint) = (self.clone(), challenge.clone(), mint.clone());
        async move { instance.attest(&challenge, &mint, extra).await }
    }

    /// A token with `key` confirmed in it.
    pub async fn token(&self, key: &EphemeralKey) -> String {
        let challenge = self.challenge(&key.public_jwk().thumbprint()).await;
        let mint = Mint::new(challenge.attested());
        let answer = self.attest(&challenge, &mint, json!({ "tee_key": key.public_jwk() })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.text()
    }

    pub async fn resource(&self, method: Method, token: &str, path: &str) -> Answer {
        let body = json!({ "TeeGet": { "resource": { "vendor": "acme", "path": path } } });
        let mut request = request(method, "/resource/storage", &body);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        send(&self.public, request).await
    }
}
