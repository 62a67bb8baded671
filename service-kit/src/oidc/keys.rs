//! The keys of an issuer, as they were published a moment ago.
//!
//! Requests whose keys are known never wait for an issuer: new keys are looked for in the background. Whoever needs a key
//! that is not known waits for one look, and nobody looks more often than the operator allows, however many ask.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jose::{TokenError, TokenKeys};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::fetch::{self, Address, FetchError, MAX_DOCUMENT};
use crate::outbound::connector;

/// After which time it is looked for new keys, and for those that are taken back.
const FRESH: Duration = Duration::from_secs(300);
/// After which time keys are no longer used that could not be read again: they may have been taken back.
const USABLE: Duration = Duration::from_secs(3600);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(10);

/// Where the keys are.
pub enum Source {
    /// In a file.
    File(PathBuf),
    /// Where the issuer says that they are.
    Discovery {
        /// Its URL.
        issuer: String,
        /// Authorities that certify it.
        ca: Option<PathBuf>,
    },
}

/// Why keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    File(std::io::Error),
    /// The file is longer than any key set.
    #[error("more than {MAX_DOCUMENT} bytes")]
    TooLong,
    /// Nobody answers as expected.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The issuer does not say where its keys are.
    #[error("{0} is no discovery document with issuer and jwks_uri")]
    Document(String),
    /// The document is another issuer's.
    #[error("{url} is the document of the issuer {found:?}")]
    Other {
        /// Where it is.
        url: String,
        /// Whose it is.
        found: String,
    },
    /// They are none.
    #[error(transparent)]
    Keys(#[from] TokenError),
    /// It took too long.
    #[error("no answer within {} s", LOOK.as_secs())]
    Timeout,
}

/// The keys of one issuer.
pub struct Keys {
    source: Source,
    interval: Duration,
    known: RwLock<Option<(Arc<TokenKeys>, Instant)>>,
    /// When it was looked for them last. Who holds it looks.
    looked: Mutex<Option<Instant>>,
}

impl Keys {
    /// Keys that are looked for once in an `interval` at most.
    pub fn new(source: Source, interval: Duration) -> Self {
        Self { source, interval, known: RwLock::default(), looked: Mutex::default() }
    }

    /// Reads them from a file.
    pub fn load(&self, path: &Path) -> Result<(), KeysError> {
        let keys = read(path)?;
        self.keep(keys);
        Ok(())
    }

    /// The keys, if there are any that can be relied on.
    pub async fn current(self: &Arc<Self>) -> Option<Arc<TokenKeys>> {
        let Some((keys, age)) = self.known().filter(|(_, age)| *age < USABLE) else {
            return self.look(None).await;
        };
        if age >= FRESH {
            let this = Arc::clone(self);
            let seen = Arc::clone(&keys);
            tokio::spawn(async move { this.look_if_due(&seen).await });
        }
        Some(keys)
    }

    /// Keys that were read after `seen`, if there are any by now.
    pub async fn newer_than(self: &Arc<Self>, seen: &Arc<TokenKeys>) -> Option<Arc<TokenKeys>> {
        self.look(Some(Arc::clone(seen))).await
    }

    fn known(&self) -> Option<(Arc<TokenKeys>, Duration)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|(keys, read)| (Arc::clone(keys), read.elapsed()))
    }

    fn keep(&self, keys: TokenKeys) -> Arc<TokenKeys> {
        let keys = Arc::new(keys);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::clone(&keys), Instant::now()));
        keys
    }

    /// What somebody else has read since `seen`, or is read now if it is time.
    async fn look(self: &Arc<Self>, seen: Option<Arc<TokenKeys>>) -> Option<Arc<TokenKeys>> {
        let this = Arc::clone(self);
        // Not in the caller's time: who hangs up would end a look that others wait for, and nobody could look again soon.
        let looking = tokio::spawn(async move {
            let mut looked = this.looked.lock().await;
            let newer = this.known().filter(|(keys, age)| {
                *age < USABLE && seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, keys))
            });
            match newer {
                Some((keys, _)) => Some(keys),
                None => this.look_now(&mut looked).await,
            }
        });
        looking.await.ok().flatten()
    }

    /// Reads what replaces `seen`, unless somebody is about to.
    async fn look_if_due(&self, seen: &Arc<TokenKeys>) {
        if let Ok(mut looked) = self.looked.try_lock()
            && self.known().is_some_and(|(keys, _)| Arc::ptr_eq(seen, &keys))
        {
            self.look_now(&mut looked).await;
        }
    }

    async fn look_now(&self, looked: &mut Option<Instant>) -> Option<Arc<TokenKeys>> {
        if looked.is_some_and(|at| at.elapsed() < self.interval) {
            return None;
        }
        let read = tokio::time::timeout(LOOK, self.source.read()).await;
        // Its end counts: those who have waited for it look no more.
        *looked = Some(Instant::now());
        match read.unwrap_or(Err(KeysError::Timeout)) {
            Ok(keys) => Some(self.keep(keys)),
            Err(error) => {
                let source = self.source.name();
                tracing::warn!(error = &error as &dyn std::error::Error, source, "keys of an issuer");
                None
            }
        }
    }
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Discovery { issuer, .. } => issuer.clone(),
        }
    }

    async fn read(&self) -> Result<TokenKeys, KeysError> {
        match self {
            Self::File(path) => read(path),
            Self::Discovery { issuer, ca } => discover(issuer, ca.as_deref()).await,
        }
    }
}

fn read(path: &Path) -> Result<TokenKeys, KeysError> {
    use std::io::Read as _;
    let most = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX);
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(KeysError::File)?;
    file.take(most.saturating_add(1)).read_to_end(&mut text).map_err(KeysError::File)?;
    if text.len() > MAX_DOCUMENT {
        return Err(KeysError::TooLong);
    }
    Ok(TokenKeys::from_jwks(&text)?)
}

/// OpenID Connect Discovery 1.0, section 4.
async fn discover(issuer: &str, ca: Option<&Path>) -> Result<TokenKeys, KeysError> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let tls = connector(ca).map_err(FetchError::from)?;
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let text = fetch::get(&Address::parse(&url)?, &tls).await?;
    let Ok(document) = serde_json::from_slice::<Document>(&text) else {
        return Err(KeysError::Document(url));
    };
    if document.issuer != issuer {
        return Err(KeysError::Other { url, found: super::shorten(&document.issuer) });
    }
    let keys = fetch::get(&Address::parse(&document.jwks_uri)?, &tls).await?;
    Ok(TokenKeys::from_jwks(&keys)?)
}
