//! The keys that sign tokens, shared by all instances through the database: made when they are due, published before they
//! sign and for as long as a token of theirs is valid.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::{Algorithm, SigningKey, TokenError, TokenSettings};
use crate::environment::Environment;
use crate::store::audit::{Entry, OK};
use crate::store::signing_keys::StoredSigningKey;
use crate::store::{Store, StoreError};
use crate::vault::Vault;

/// How long a key is published before it signs, in seconds: relying parties keep the key set for a while.
pub const LEAD: i64 = 3600;

/// Who makes keys when they are due.
const SCHEDULE: &str = "schedule";

/// Added to the lifetime of tokens before an old key is forgotten, for clocks that differ.
const GRACE: i64 = 300;

/// No key activates before the epoch.
const IF_NONE: i64 = -1;

/// The keys.
pub(super) struct KeyRing {
    store: Store,
    vault: Vault,
    environment: Environment,
    /// Opened keys by name; the database says which of them signs.
    opened: Mutex<HashMap<String, Arc<SigningKey>>>,
}

impl KeyRing {
    pub(super) fn new(store: Store, vault: Vault, environment: Environment) -> Self {
        Self { store, vault, environment, opened: Mutex::default() }
    }

    /// The key that signs now; the first one is made here.
    pub(super) async fn active(&self, algorithm: Algorithm) -> Result<Arc<SigningKey>, TokenError> {
        let now = self.environment.clock.now();
        if let Some(stored) = self.store.active_signing_key(algorithm.name(), now).await? {
            return self.opened(&stored).await;
        }
        self.add(algorithm, now, IF_NONE, SCHEDULE).await?;
        let stored = self.store.active_signing_key(algorithm.name(), now).await?;
        self.opened(&stored.ok_or(TokenError::Key)?).await
    }

    /// The public key of this name and its algorithm.
    pub(super) async fn public(&self, kid: &str) -> Result<Option<(Algorithm, Value)>, TokenError> {
        let Some(stored) = self.store.signing_key(kid).await? else { return Ok(None) };
        let public = serde_json::from_str(&stored.public).map_err(|_| TokenError::Key)?;
        Ok(Some((stored.algorithm.parse()?, public)))
    }

    /// All public keys, as a JWK set (RFC 7517 section 5).
    pub(super) async fn key_set(&self) -> Result<Value, TokenError> {
        let stored = self.store.signing_keys().await?;
        let keys: Result<Vec<Value>, _> =
            stored.iter().map(|stored| serde_json::from_str(&stored.public)).collect();
        Ok(json!({ "keys": keys.map_err(|_| TokenError::Key)? }))
    }

    /// Makes a key that signs from `activates_at` on.
    pub(super) async fn rotate(
        &self,
        algorithm: Algorithm,
        activates_at: i64,
        actor: &str,
    ) -> Result<String, TokenError> {
        self.add(algorithm, activates_at, i64::MAX, actor).await?.ok_or(TokenError::Key)
    }

    /// Makes the keys that are due, and forgets those whose last token has expired.
    pub(super) async fn maintain(&self, settings: &TokenSettings) -> Result<(), TokenError> {
        let now = self.environment.clock.now();
        let mut newest: HashMap<String, StoredSigningKey> = HashMap::new();
        for stored in self.store.signing_keys().await? {
            newest.insert(stored.algorithm.clone(), stored);
        }
        for stored in newest.into_values() {
            let algorithm = stored.algorithm.parse()?;
            let due = stored.activates_at.saturating_add(settings.rotation);
            if settings.rotation > 0 && now >= due.saturating_sub(LEAD) {
                self.add(algorithm, due.max(now.saturating_add(LEAD)), stored.activates_at, SCHEDULE).await?;
            }
            self.forget(algorithm, now.saturating_sub(settings.lifetime).saturating_sub(GRACE)).await?;
        }
        Ok(())
    }

    async fn forget(&self, algorithm: Algorithm, before: i64) -> Result<(), TokenError> {
        let mut change = self.store.change().await?;
        let forgotten = change.drop_signing_keys(algorithm.name(), before).await?;
        if forgotten > 0 {
            let entry = self.entry(SCHEDULE, "signing_key.forget", algorithm.name());
            change.commit(&entry).await?;
            self.opened.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(())
    }

    /// The name of the new key; none if one that activates after `unless_after` exists.
    async fn add(
        &self,
        algorithm: Algorithm,
        activates_at: i64,
        unless_after: i64,
        actor: &str,
    ) -> Result<Option<String>, TokenError> {
        let environment = self.environment.clone();
        // An RSA key takes a while.
        let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm, &environment)).await;
        let (key, pkcs8) = made.map_err(|_| TokenError::Key)??;
        let stored = StoredSigningKey {
            private: self.vault.seal(&context(&key.kid), &pkcs8).await?,
            public: serde_json::to_string(&key.public).map_err(|_| TokenError::Key)?,
            algorithm: algorithm.name().to_owned(),
            kid: key.kid,
            activates_at,
        };
        let mut change = self.store.change().await?;
        if !change.add_signing_key(&stored, unless_after).await? {
            return Ok(None);
        }
        change.commit(&self.entry(actor, "signing_key.add", &stored.kid)).await?;
        tracing::info!(kid = stored.kid, %algorithm, activates_at, "signing key added");
        Ok(Some(stored.kid))
    }

    async fn opened(&self, stored: &StoredSigningKey) -> Result<Arc<SigningKey>, TokenError> {
        let known = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&stored.kid).cloned();
        if let Some(key) = known {
            return Ok(key);
        }
        let pkcs8 = self.vault.open(&context(&stored.kid), &stored.private).await?;
        let key = Arc::new(SigningKey::from_pkcs8(stored.algorithm.parse()?, &pkcs8)?);
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(stored.kid.clone(), Arc::clone(&key));
        Ok(key)
    }

    fn entry<'a>(&self, actor: &'a str, action: &'a str, object: &'a str) -> Entry<'a> {
        Entry { at: self.environment.clock.now(), actor, action, object, digest: None, result: OK }
    }
}

/// What a sealed signing key is.
#[must_use]
pub fn context(kid: &str) -> String {
    format!("signing-key:{kid}")
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
