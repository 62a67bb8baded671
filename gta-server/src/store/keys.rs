//! The service's keys: for rows, nonces and tokens. All instances share them through the database, where they are sealed. A
//! new key is used by every instance within a second, and old ones go on verifying what they made, until they are retired.
//!
//! Of each purpose, keys are numbered: two instances that make the next one at the same time make one.

use std::collections::{HashMap, HashSet};
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
/// How often a key is made when other instances make keys, too.
const TRIES: usize = 5;
/// Bytes of the id of a key that authenticates.
pub(super) const KEY_ID_LEN: usize = 16;

/// The key of the last generation.
struct Latest {
    generation: i64,
    created_at: i64,
}

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
    /// Every purpose.
    pub const ALL: [Self; 3] = [Self::Row, Self::Nonce, Self::Token];

    /// Its name, in the database and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
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
        for _ in 0..TRIES {
            let next = self.latest(purpose).await?.map_or(0, |latest| latest.generation.saturating_add(1));
            if let Some(id) = self.make(purpose, next).await? {
                return Ok(id);
            }
        }
        Err(StoreError::Conflict("the key"))
    }

    /// Makes a key if the one that is in use is at least `period` seconds old; gives its id. Of several instances, the first
    /// one does it. Of a purpose for which nothing was made yet, there is none.
    ///
    /// # Errors
    /// As [`Self::rotate`].
    pub async fn rotate_after(&self, purpose: Purpose, period: i64) -> Result<Option<String>, StoreError> {
        match self.latest(purpose).await? {
            Some(Latest { generation, created_at }) if self.now().saturating_sub(created_at) >= period => {
                self.make(purpose, generation.saturating_add(1)).await
            }
            _ => Ok(None),
        }
    }

    /// Takes away the keys that were replaced more than `period` seconds ago, here and in the database; gives how many.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn retire(&self, purpose: Purpose, period: i64) -> Result<u64, StoreError> {
        const RETIRE: &str = "DELETE FROM \"keys\" WHERE purpose = $1 AND generation <
            (SELECT MAX(generation) FROM \"keys\" WHERE purpose = $1 AND created_at < $2)";
        const FIND: &str = "SELECT id FROM \"keys\" WHERE purpose = $1";
        let before = self.now().saturating_sub(period);
        let retired = self.db.execute(RETIRE, params![purpose.name(), before]).await?;
        // Another instance may have done it.
        let mut left = HashSet::new();
        for row in self.db.fetch_all(FIND, params![purpose.name()]).await? {
            left.insert(row.get::<String>("id")?);
        }
        lock(&self.opened).retain(|id, (of, _)| *of != purpose || left.contains(id));
        Ok(retired)
    }

    /// When the key that is in use was made, of each purpose that has one.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn made(&self) -> Result<Vec<(Purpose, i64)>, StoreError> {
        let mut made = Vec::new();
        for purpose in Purpose::ALL {
            made.extend(self.latest(purpose).await?.map(|latest| (purpose, latest.created_at)));
        }
        Ok(made)
    }

    async fn latest(&self, purpose: Purpose) -> Result<Option<Latest>, StoreError> {
        const FIND: &str = "SELECT generation, created_at FROM \"keys\" WHERE purpose = $1
            ORDER BY generation DESC LIMIT 1";
        match self.db.fetch_optional(FIND, params![purpose.name()]).await? {
            Some(row) => {
                Ok(Some(Latest { generation: row.get("generation")?, created_at: row.get("created_at")? }))
            }
            None => Ok(None),
        }
    }

    /// Makes the key of this generation; gives its id, if no other instance has made one.
    async fn make(&self, purpose: Purpose, generation: i64) -> Result<Option<String>, StoreError> {
        const INSERT: &str = "INSERT INTO \"keys\"
            (id, purpose, generation, created_at, content, wrapped_key, master_key)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let (id, secret) = match purpose {
            Purpose::Row | Purpose::Nonce => {
                let random = |_| StoreError::Key;
                let id = hex::encode(self.environment.random::<KEY_ID_LEN>().map_err(random)?);
                (id, Zeroizing::new(self.environment.random::<32>().map_err(random)?.to_vec()))
            }
            Purpose::Token => {
                let (key, pkcs8) =
                    SigningKey::generate(Algorithm::Es384, &self.environment).map_err(|_| StoreError::Key)?;
                (key.kid, pkcs8)
            }
        };
        let Sealed { content, wrapped_key, master_key } =
            self.vault.seal(&context(purpose.name(), &id), &secret).await?;
        let now = self.now();
        let values = params![&id, purpose.name(), generation, now, &content, &wrapped_key, &master_key];
        let made = self.db.execute(INSERT, values).await;
        // Whoever has made it, it is the one to be used.
        lock(&self.active).remove(&purpose);
        match made {
            Ok(_) => Ok(Some(id)),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn now(&self) -> i64 {
        self.environment.clock.now()
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

    /// A secret that was sealed as this, under the present master key; `None` if it is so already.
    pub(crate) async fn rewrap_secret(
        &self,
        context: &str,
        sealed: &Sealed,
    ) -> Result<Option<Sealed>, StoreError> {
        if sealed.master_key == self.vault.current_id() {
            return Ok(None);
        }
        Ok(Some(self.vault.rewrap(context, sealed).await?))
    }

    /// Puts every key under the present master key; gives how many it were.
    pub(crate) async fn rewrap(&self) -> Result<u64, StoreError> {
        const ALL: &str = "SELECT id, purpose, content, wrapped_key, master_key FROM \"keys\"";
        const SET: &str = "UPDATE \"keys\" SET wrapped_key = $1, master_key = $2 WHERE id = $3";
        let mut count = 0;
        for row in self.db.fetch_all(ALL, params![]).await? {
            let (id, purpose): (String, String) = (row.get("id")?, row.get("purpose")?);
            if let Some(Sealed { wrapped_key, master_key, .. }) =
                self.rewrap_secret(&context(&purpose, &id), &sealed(&row)?).await?
            {
                count += self.db.execute(SET, params![&wrapped_key, &master_key, &id]).await?;
            }
        }
        Ok(count)
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
            WHERE purpose = 'token' ORDER BY generation";
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
            ORDER BY generation DESC LIMIT 1";
        let fresh = lock(&self.active).get(&purpose).filter(|(asked, _)| asked.elapsed() < FRESH).cloned();
        if let Some((_, id)) = fresh
            && let Some((_, key)) = self.known(&id)
        {
            return Ok((id, key));
        }
        let asked = Instant::now();
        let mut row = self.db.fetch_optional(FIND, params![purpose.name()]).await?;
        if row.is_none() {
            self.make(purpose, 0).await?;
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
        let secret = self.vault.open(&context(purpose.name(), &id), &sealed(row)?).await?;
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

fn sealed(row: &Row) -> Result<Sealed, sqlx::Error> {
    Ok(Sealed {
        content: row.get("content")?,
        wrapped_key: row.get("wrapped_key")?,
        master_key: row.get("master_key")?,
    })
}

/// What a sealed key is: a key that was exchanged for one of another purpose does not open.
fn context(purpose: &str, id: &str) -> String {
    format!("gta {purpose} key {id}")
}
