//! A service in process, with a clock that tests set, and the guest that talks to it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use attestation_service::environment::{Clock, Environment, System};
use attestation_service::service::{Service, Settings};
use attestation_service::store::Store;
use attestation_service::token::{SigningKey, Tokens};
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
pub const UID: u32 = 1000;
pub const SECRET: &[u8] = b"the disk key";

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

/// One instance of the service.
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
    /// An instance on the database in `directory`; instances in one directory are replicas.
    pub async fn open(directory: &Path) -> Self {
        Self::open_with(directory, Settings { challenge_lifetime: 300, max_challenges: 1000 }, "redoubt")
            .await
    }

    pub async fn open_with(directory: &Path, settings: Settings, audience: &str) -> Self {
        let url = format!("sqlite:{}", directory.join("db").display());
        let clock = ManualClock(Arc::new(AtomicI64::new(NOW)));
        let environment = Environment { clock: Arc::new(clock.clone()), entropy: Arc::new(System) };
        let key = SigningKey::load_or_create(&directory.join("token.pem"), &environment).unwrap();
        let service = Arc::new(Service {
            store: Store::open(&url).await.unwrap(),
            tokens: Tokens::new(key, "redoubt".to_owned(), audience.to_owned()).unwrap(),
            environment,
            settings,
        });
        let public = public::router(Arc::clone(&service));
        Self { service, public, clock }
    }

    /// An instance that knows the platform and the Realm of [`Mint::new`] and has a resource `acme/disk-key`.
    pub async fn ready() -> (Self, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let instance = Self::open(directory.path()).await;
        instance.register(&Mint::new([0; 64])).await;
        (instance, directory)
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
                json!({ "name": "acme/disk-key", "content": base64::engine::general_purpose::STANDARD.encode(SECRET) }),
            ),
        ] {
            let answer = self.admin(Method::POST, path, &document).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        }
    }

    pub async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.admin_as(Some(UID), method, path, body).await
    }

    pub async fn admin_as(&self, peer: Option<u32>, method: Method, path: &str, body: &Value) -> Answer {
        let mut request = request(method, path, body);
        if let Some(uid) = peer {
            request.extensions_mut().insert(admin::PeerUid(uid));
        }
        send(&admin::router(Arc::clone(&self.service), UID), request).await
    }

    pub async fn challenge(&self, user_data: &[u8]) -> Challenge {
        let answer =
            send(&self.public, request(Method::GET, "/challenge", &json!({ "user_data": user_data }))).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
        Challenge {
            text: serde_json::from_slice(&answer.body).unwrap(),
            cookie: cookie.split(';').next().unwrap().to_owned(),
        }
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
