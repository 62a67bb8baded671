//! The service's keys: for rows, nonces and tokens. All instances share them through the database, where they are sealed. A
//! new key is used by every instance within a second, and old ones go on verifying what they made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde_json::Value;
use service_kit::db::{Db, Row, params};
use service_kit::environment::Environment;
use service_kit::signing::{Algorithm, SigningKey};
use service_kit::vault::{Sealed, Vault};
use zeroize::Zeroizing;

use super::StoreError;

/// How long another instance may go on with a key after a new one was made.
const FRESH: Duration = Duration::from_secs(1);

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Purpose {
    /// It authenticates rows.
    Row,
    /// It authenticates nonces.
    Nonce,
    /// It signs tokens.
    Token,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Row, Self::Nonce, Self::Token];

    const fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Nonce => "nonce",
            Self::Token => "token",
        }
    }
}

/// An opened key.
#[derive(Clone)]
enum Key {
    Mac(Arc<hmac::Key>),
    Signing(Arc<SigningKey>),
}

/// The keys of one database.
pub struct KeyRing {
    db: Db,
    vault: Vault,
    environment: Environment,
    /// Opened keys by id. What a key is never changes.
    opened: Mutex<HashMap<String, (Purpose, Key)>>,
    /// Which of them are in use, as the database said a moment ago.
    active: Mutex<HashMap<Purpose, (Instant, String)>>,
}

impl KeyRing {
    pub(super) fn new(db: Db, vault: Vault, environment: Environment) -> Self {
        Self { db, vault, environment, opened: Mutex::default(), active: Mutex::default() }
    }

    /// Makes a key that is used from now on; gives its id.
    ///
    /// # Errors
    /// [`StoreError`] if the database or the vault cannot be used.
    pub async fn rotate(&self, purpose: Purpose) -> Result<String, StoreError> {
        let (id, public, secret) = match purpose {
            Purpose::Row | Purpose::Nonce => {
                let random = |_| StoreError::Key;
                let id = hex::encode(self.environment.random::<16>().map_err(random)?);
                (id, String::new(), Zeroizing::new(self.environment.random::<32>().map_err(random)?.to_vec()))
            }
            Purpose::Token => {
                let (key, pkcs8) =
                    SigningKey::generate(Algorithm::Es384, &self.environment).map_err(|_| StoreError::Key)?;
                let public = serde_json::to_string(&key.public).map_err(|_| StoreError::Key)?;
                (key.kid, public, pkcs8)
            }
        };
        let Sealed { content, wrapped_key, master_key } =
            self.vault.seal(&context(purpose.name(), &id), &secret).await?;
        self.db
            .execute(
                "INSERT INTO \"keys\" (id, purpose, generation, public, content, wrapped_key, master_key)
                SELECT $1, $2, COALESCE(MAX(generation) + 1, 0), $3, $4, $5, $6 FROM \"keys\" WHERE purpose = $2",
                params![&id, purpose.name(), &public, &content, &wrapped_key, &master_key],
            )
            .await?;
        lock(&self.active).remove(&purpose);
        Ok(id)
    }

    /// Seals a secret of a tenant; `context` says what it is.
    pub(crate) async fn seal_secret(&self, context: &str, secret: &[u8]) -> Result<Sealed, StoreError> {
        Ok(self.vault.seal(context, secret).await?)
    }

    /// Opens a secret that was sealed as this.
    pub(crate) async fn open_secret(
        &self,
        context: &str,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        Ok(self.vault.open(context, sealed).await?)
    }

    /// The key that authenticates what is made now, and its id.
    pub(crate) async fn active_mac(&self, purpose: Purpose) -> Result<(String, Arc<hmac::Key>), StoreError> {
        let (id, key) = self.active(purpose).await?;
        match key {
            Key::Mac(key) => Ok((id, key)),
            Key::Signing(_) => Err(StoreError::Key),
        }
    }

    /// The key that signs tokens now.
    pub(crate) async fn active_signing(&self) -> Result<Arc<SigningKey>, StoreError> {
        match self.active(Purpose::Token).await?.1 {
            Key::Signing(key) => Ok(key),
            Key::Mac(_) => Err(StoreError::Key),
        }
    }

    /// The key with this id, if there is one for this purpose.
    pub(crate) async fn mac(&self, purpose: Purpose, id: &str) -> Result<Option<Arc<hmac::Key>>, StoreError> {
        const FIND: &str = "SELECT id, purpose, content, wrapped_key, master_key FROM \"keys\"
            WHERE id = $1 AND purpose = $2";
        match self.known(id) {
            Some((of, Key::Mac(key))) if of == purpose => return Ok(Some(key)),
            Some(_) => return Ok(None),
            None => {}
        }
        let Some(row) = self.db.fetch_optional(FIND, params![id, purpose.name()]).await? else {
            return Ok(None);
        };
        match self.open(&row).await?.1 {
            Key::Mac(key) => Ok(Some(key)),
            Key::Signing(_) => Err(StoreError::Key),
        }
    }

    /// The public keys of tokens, as JWKs: those of the private keys, as what else the database has is no secret of ours.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, or a key cannot be opened.
    pub async fn public(&self) -> Result<Vec<Value>, StoreError> {
        const FIND: &str = "SELECT id, purpose, content, wrapped_key, master_key FROM \"keys\"
            WHERE purpose = 'token' ORDER BY generation, id";
        let mut keys = Vec::new();
        for row in self.db.fetch_all(FIND, params![]).await? {
            let Key::Signing(key) = self.open(&row).await?.1 else { return Err(StoreError::Key) };
            keys.push(serde_json::to_value(&key.public).map_err(|_| StoreError::Key)?);
        }
        Ok(keys)
    }

    async fn active(&self, purpose: Purpose) -> Result<(String, Key), StoreError> {
        const FIND: &str =
            "SELECT id, purpose, content, wrapped_key, master_key FROM \"keys\" WHERE purpose = $1
            ORDER BY generation DESC, id LIMIT 1";
        let fresh = lock(&self.active).get(&purpose).filter(|(asked, _)| asked.elapsed() < FRESH).cloned();
        if let Some((_, id)) = fresh
            && let Some((_, key)) = self.known(&id)
        {
            return Ok((id, key));
        }
        let asked = Instant::now();
        let mut row = self.db.fetch_optional(FIND, params![purpose.name()]).await?;
        if row.is_none() {
            // The first one. Of two instances that make it at once, all use the same afterwards.
            self.rotate(purpose).await?;
            row = self.db.fetch_optional(FIND, params![purpose.name()]).await?;
        }
        let (id, key) = self.open(&row.ok_or(StoreError::Key)?).await?;
        lock(&self.active).insert(purpose, (asked, id.clone()));
        Ok((id, key))
    }

    fn known(&self, id: &str) -> Option<(Purpose, Key)> {
        lock(&self.opened).get(id).cloned()
    }

    async fn open(&self, row: &Row) -> Result<(String, Key), StoreError> {
        let id: String = row.get("id")?;
        if let Some((_, key)) = self.known(&id) {
            return Ok((id, key));
        }
        let purpose: String = row.get("purpose")?;
        let purpose =
            Purpose::ALL.into_iter().find(|known| known.name() == purpose).ok_or(StoreError::Key)?;
        let sealed = Sealed {
            content: row.get("content")?,
            wrapped_key: row.get("wrapped_key")?,
            master_key: row.get("master_key")?,
        };
        let secret = self.vault.open(&context(purpose.name(), &id), &sealed).await?;
        let key = if purpose == Purpose::Token {
            let key = SigningKey::from_pkcs8(Algorithm::Es384, &secret).map_err(|_| StoreError::Key)?;
            Key::Signing(Arc::new(key))
        } else {
            Key::Mac(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
        };
        lock(&self.opened).insert(id.clone(), (purpose, key.clone()));
        Ok((id, key))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left whole entries behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a sealed key is: a key that was exchanged for one of another purpose does not open.
fn context(purpose: &str, id: &str) -> String {
    format!("gta {purpose} key {id}")
}
