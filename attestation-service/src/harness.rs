//! The public plane without sockets: bytes in, status out. For fuzzing and for tests that need no TLS.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use axum::http::{Method, Request};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use verifier::rego::RegoCache;
use zeroize::Zeroizing;

use crate::admin;
use crate::admin::identity::{Operator, Role};
use crate::authorities::Authorities;
use crate::environment::Predictable;
use crate::metrics::Metrics;
use crate::public;
use crate::service::{Service, Settings};
use crate::store::Store;
use crate::token::{TokenSettings, Tokens};
use crate::vault::{FileKey, Vault};

/// The moment at which the harness lives, seconds since the Unix epoch.
pub const NOW: i64 = 1_800_000_000;
/// The challenge that is fresh before every request.
pub const CHALLENGE: [u8; 32] = [0x42; 32];
/// The session that it belongs to; every request carries its cookie.
pub const SESSION: &str = "0123456789abcdef0123456789abcdef";
/// The nonce of the key-broker session that is fresh before every request, in the session of the same name.
pub const NONCE: [u8; 32] = [0x43; 32];
/// A bearer that stands for the token that [`Harness::keep_token`] keeps.
pub const TOKEN: &str = "token";

/// The harness cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// No runtime.
    #[error("cannot start a runtime")]
    Runtime(#[from] std::io::Error),
    /// No database.
    #[error("cannot open a database in memory")]
    Store(#[from] crate::store::OpenError),
}

/// A service with a database in memory, at a fixed time, with predictable randomness.
pub struct Harness {
    runtime: Runtime,
    service: Arc<Service>,
    token: Option<String>,
}

impl Harness {
    /// Sets it up.
    ///
    /// # Errors
    /// [`HarnessError`] if the machine gives no thread or no memory.
    pub fn new() -> Result<Self, HarnessError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let environment = Predictable::at(NOW);
        let store = runtime.block_on(Store::open("sqlite::memory:"))?;
        let master = Arc::new(FileKey::new(Zeroizing::new([7; 32])));
        let vault = Vault::new(master, Vec::new(), environment.clone());
        let settings = TokenSettings::default();
        let service = Service {
            tokens: Tokens::new(store.clone(), vault.clone(), environment.clone(), settings),
            store,
            vault,
            environment,
            settings: Settings { challenge_lifetime: 300, max_challenges: 16 },
            authorities: Authorities::default(),
            rego: RegoCache::default(),
            metrics: Metrics::default(),
        };
        Ok(Self { runtime, service: Arc::new(service), token: None })
    }

    /// Sends a document to the admin plane, as an operator who may do everything; gives the status.
    pub fn register(&self, path: &str, document: &Value) -> Option<u16> {
        let operator = Operator { name: "harness".to_owned(), roles: vec![Role::Admin] };
        let request = Request::post(path)
            .header(CONTENT_TYPE, "application/json")
            .extension(operator)
            .body(Body::from(document.to_string()))
            .ok()?;
        self.send(admin::router(Arc::clone(&self.service)), request).map(|(status, _)| status)
    }

    /// Sends an attestation and keeps its token for requests whose bearer is [`TOKEN`]; gives the status.
    pub fn keep_token(&mut self, attestation: &[u8]) -> Option<u16> {
        let (status, answer) = self.answer(b"POST", "/attestation", "", attestation)?;
        self.token = (status == 200).then_some(answer);
        Some(status)
    }

    /// Runs one request through the public router and returns its status; `None` if `method` or `path` cannot be part
    /// of any request. `bearer` is sent as a token if it can be.
    pub fn request(&self, method: &[u8], path: &str, bearer: &str, body: &[u8]) -> Option<u16> {
        self.answer(method, path, bearer, body).map(|(status, _)| status)
    }

    fn answer(&self, method: &[u8], path: &str, bearer: &str, body: &[u8]) -> Option<(u16, String)> {
        let cookies =
            [public::SESSION_COOKIE, public::kbs::SESSION_COOKIE].map(|name| format!("{name}={SESSION}"));
        let mut request = Request::builder()
            .method(Method::from_bytes(method).ok()?)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .header(COOKIE, cookies.join("; "))
            .body(Body::from(body.to_vec()))
            .ok()?;
        let bearer = self.token.as_deref().filter(|_| bearer == TOKEN).unwrap_or(bearer);
        // Without one, the key-broker session counts.
        if !bearer.is_empty()
            && let Ok(value) = format!("Bearer {bearer}").parse()
        {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.runtime.block_on(async {
            let store = &self.service.store;
            store.sweep_challenges(i64::MAX).await.ok()?;
            store.issue_challenge(&CHALLENGE, SESSION, NOW, 300, 1).await.ok()?;
            store.sweep_sessions(i64::MAX).await.ok()?;
            store.open_session(SESSION, "cca", &NONCE, NOW, 300, 1).await.ok()
        })?;
        self.send(public::router(Arc::clone(&self.service)), request)
    }

    fn send(&self, router: Router, request: Request<Body>) -> Option<(u16, String)> {
        self.runtime.block_on(async {
            let response = match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), usize::MAX).await.ok()?;
            Some((status, String::from_utf8_lossy(&body).into_owned()))
        })
    }
}
