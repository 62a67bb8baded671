//! The REST interface without sockets and files: text in, status and text out. For fuzzing.
//!
//! A request is text in three parts: `METHOD PATH` (below [`BASE`]), newline, who asks, newline, body. Who asks is a role of
//! the first tenant, `other` for the administrator of a second one, `TENANT KEY` for what stands there, or nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request};
use serde::Deserialize;
use serde_json::Value;
use service_kit::environment::Predictable;
use service_kit::vault::{FileKey, Vault};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::api::{BASE, router};
use crate::model::Role;
use crate::service::{Service, Settings};
use crate::store::Store;

/// The moment at which the harness lives, seconds since the Unix epoch.
pub const NOW: i64 = 1_800_000_000;
/// In a request, stands for a nonce that was just given out.
pub const NONCE: &str = "$NONCE";

const TENANT: &str = "acme";
const OTHER: &str = "umbrella";
const ROLES: [(&str, Role); 4] = [
    ("admin", Role::Admin),
    ("auditor", Role::Auditor),
    ("agent", Role::Agent),
    ("relying-party", Role::RelyingParty),
];
/// After so many requests that have left something behind, however little, all begins anew.
const MAX_REQUESTS: u32 = 1000;

/// The harness cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// No runtime.
    #[error("cannot start a runtime")]
    Runtime(#[from] std::io::Error),
    /// No database.
    #[error("cannot open a database in memory")]
    Open(#[from] service_kit::db::OpenError),
    /// Nobody can be added.
    #[error("cannot add tenants")]
    Store(#[from] crate::store::StoreError),
    /// What is to be there is not read.
    #[error("the setup is a list of requests with names")]
    Setup(#[from] serde_json::Error),
    /// What is to be there is refused.
    #[error("{0}")]
    Refused(String),
}

/// A request that is made before any other.
#[derive(Clone, Debug, Deserialize)]
struct Step {
    request: String,
    /// Where in the answer what is that later requests call by a name.
    #[serde(default)]
    names: BTreeMap<String, String>,
}

/// A service with a database in memory, at a fixed time, with predictable randomness.
pub struct Harness {
    runtime: Runtime,
    setup: Vec<Step>,
    world: RefCell<World>,
}

/// The service with what is registered.
struct World {
    service: Arc<Service>,
    router: Router,
    /// What callers send as `User-Id` and `API-Key`.
    callers: BTreeMap<&'static str, (&'static str, String)>,
    names: BTreeMap<String, String>,
    changes: u64,
    requests: u32,
}

impl Harness {
    /// Sets it up; `setup` is JSON, a list of `{"request": ..., "names": {NAME: POINTER}}`. What a pointer (RFC 6901) finds in the
    /// answer takes the place of the name in all later requests.
    ///
    /// # Errors
    /// [`HarnessError`] if the machine gives no thread or no memory, or a request of `setup` is not answered with 200.
    pub fn new(setup: &str) -> Result<Self, HarnessError> {
        let setup: Vec<Step> = serde_json::from_str(setup)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let world = RefCell::new(runtime.block_on(World::new(&setup))?);
        Ok(Self { runtime, setup, world })
    }

    /// The status of the answer to a request, and its body unless that goes on for ever; `None` if the text cannot be a
    /// request. What it has changed is as before at the next one.
    ///
    /// # Errors
    /// [`HarnessError`] if all has to begin anew, and that fails.
    pub fn request(&self, text: &[u8]) -> Result<Option<(u16, String)>, HarnessError> {
        let mut world = self.world.borrow_mut();
        if world.is_used() {
            *world = self.runtime.block_on(World::new(&self.setup))?;
        }
        Ok(self.runtime.block_on(world.request(text)))
    }
}

impl World {
    async fn new(setup: &[Step]) -> Result<Self, HarnessError> {
        let environment = Predictable::at(NOW);
        let master = Arc::new(FileKey::new(Zeroizing::new([7; 32])));
        let vault = Vault::new(master, Vec::new(), environment.clone());
        let store = Store::open("sqlite::memory:", vault, environment.clone()).await?;
        let service = Arc::new(Service::new(store, environment, Settings::default()));
        let admin = service.add_tenant(TENANT, "harness").await?;
        let mut callers = BTreeMap::from([
            ("admin", (TENANT, admin)),
            ("other", (OTHER, service.add_tenant(OTHER, "harness").await?)),
        ]);
        for (name, role) in ROLES.into_iter().skip(1) {
            callers.insert(name, (TENANT, service.add_key(TENANT, role, "harness").await?));
        }
        let router = router(Arc::clone(&service), None, |_, _| {});
        let mut world = Self { service, router, callers, names: BTreeMap::new(), changes: 0, requests: 0 };
        for step in setup {
            world.prepare(step).await?;
        }
        world.changes = world.service.store.changes();
        world.requests = 0;
        Ok(world)
    }

    async fn prepare(&mut self, step: &Step) -> Result<(), HarnessError> {
        let refused = |answer: String| HarnessError::Refused(format!("{}: {answer}", step.request));
        let answer = match self.request(step.request.as_bytes()).await {
            Some((200, answer)) => answer,
            Some((_, answer)) => return Err(refused(answer)),
            None => return Err(refused("not a request".to_owned())),
        };
        let found: Value = serde_json::from_str(&answer).unwrap_or_default();
        for (name, pointer) in &step.names {
            let value = found.pointer(pointer).and_then(Value::as_str);
            let value = value.ok_or_else(|| refused(format!("no {pointer} in {answer}")))?;
            self.names.insert(name.clone(), value.to_owned());
        }
        Ok(())
    }

    /// Whether requests may have left something behind.
    fn is_used(&self) -> bool {
        self.requests >= MAX_REQUESTS || self.service.store.changes() != self.changes
    }

    async fn request(&mut self, text: &[u8]) -> Option<(u16, String)> {
        self.requests = self.requests.saturating_add(1);
        let mut parts = text.splitn(3, |byte| *byte == b'\n');
        let (line, who, body) = (parts.next()?, parts.next()?, parts.next()?);
        let (line, who) = (str::from_utf8(line).ok()?, str::from_utf8(who).ok()?);
        let body = match str::from_utf8(body) {
            Ok(body) => self.named(body).await.into_bytes(),
            Err(_) => body.to_vec(),
        };
        let (method, path) = line.split_once(' ')?;
        let path = self.named(path).await;
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).ok()?)
            .uri(format!("{BASE}{path}"))
            .header(CONTENT_TYPE, "application/json");
        let caller = self.callers.get(who).map(|(tenant, key)| (*tenant, key.as_str()));
        if let Some((tenant, key)) = caller.or_else(|| who.split_once(' ')) {
            request = request.header("User-Id", tenant).header("API-Key", key);
        }
        let request = request.body(Body::from(body)).ok()?;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status().as_u16();
        if response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
            return Some((status, String::new()));
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.ok()?;
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The text with what its names stand for.
    async fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.names {
            text = text.replace(name, value);
        }
        if text.contains(NONCE)
            && let Ok(nonce) = self.service.issue_nonce(TENANT, None).await
        {
            text = text.replace(NONCE, &nonce);
        }
        text
    }
}
