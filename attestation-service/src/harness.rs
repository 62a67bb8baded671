//! The public plane without sockets: bytes in, status out. For fuzzing and for tests that need no TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use axum::http::{Method, Request};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::authorities::Authorities;
use crate::environment::{Clock, Entropy, EntropyError, Environment};
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

struct Fixed(AtomicU64);

impl Clock for Fixed {
    fn now(&self) -> i64 {
        NOW
    }
}

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(8) {
            let count = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            for (byte, value) in chunk.iter_mut().zip(count.iter().rev()) {
                *byte = *value;
            }
        }
        Ok(())
    }
}

/// A service with an empty database in memory, at a fixed time, with predictable randomness.
pub struct Harness {
    runtime: Runtime,
    service: Arc<Service>,
}

impl Harness {
    /// Sets it up.
    ///
    /// # Errors
    /// [`HarnessError`] if the machine gives no thread or no memory.
    pub fn new() -> Result<Self, HarnessError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fixed = Arc::new(Fixed(AtomicU64::new(1)));
        let environment = Environment { clock: Arc::<Fixed>::clone(&fixed), entropy: fixed };
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
            metrics: Metrics::default(),
        };
        Ok(Self { runtime, service: Arc::new(service) })
    }

    /// Runs one request through the public router and returns its status; `None` if `method` or `path` cannot be part
    /// of any request. `bearer` is sent as a token if it can be.
    pub fn request(&self, method: &[u8], path: &str, bearer: &str, body: &[u8]) -> Option<u16> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method).ok()?)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .header(COOKIE, format!("{}={SESSION}", public::SESSION_COOKIE))
            .body(Body::from(body.to_vec()))
            .ok()?;
        if let Ok(value) = format!("Bearer {bearer}").parse() {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.runtime.block_on(async {
            let store = &self.service.store;
            store.sweep_challenges(i64::MAX).await.ok()?;
            store.issue_challenge(&CHALLENGE, SESSION, NOW, 300, 1).await.ok()?;
            let router = public::router(Arc::clone(&self.service));
            let response = match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            Some(response.status().as_u16())
        })
    }
}
