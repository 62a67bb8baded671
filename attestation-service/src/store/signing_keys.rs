//! Keys that sign tokens, shared by all instances. Their private halves come here sealed.

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_exists};
use crate::vault::Sealed;

/// A signing key.
#[derive(Clone, Debug)]
pub struct StoredSigningKey {
    /// Its name in tokens and in the published key set.
    pub kid: String,
    /// `ES384` or `PS256`.
    pub algorithm: String,
    /// The public half, a JWK in JSON.
    pub public: String,
    /// The private half, PKCS#8 in DER.
    pub private: Sealed,
    /// From when on it signs, seconds since the Unix epoch.
    pub activates_at: i64,
}

impl TryFrom<Row> for StoredSigningKey {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            kid: row.get("kid")?,
            algorithm: row.get("algorithm")?,
            public: row.get("public")?,
            private: Sealed {
                content: row.get("content")?,
                wrapped_key: row.get("wrapped_key")?,
                master_key: row.get("master_key")?,
            },
            activates_at: row.get("activates_at")?,
        })
    }
}

impl Change {
    /// Adds a key unless one of its algorithm activates after `unless_after`; says whether it was added.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn add_signing_key(
        &mut self,
        key: &StoredSigningKey,
        unless_after: i64,
    ) -> Result<bool, StoreError> {
        let added = self
            .tx
            .execute(
                "INSERT INTO signing_keys
                 (kid, algorithm, serial, public, content, wrapped_key, master_key, activates_at)
                 SELECT $1, $2, COALESCE(MAX(serial), 0) + 1, $3, $4, $5, $6, $7
                 FROM signing_keys WHERE algorithm = $2
                 HAVING COALESCE(MAX(activates_at), $8) <= $8",
                params![
                    &key.kid,
                    &key.algorithm,
                    &key.public,
                    &key.private.content,
                    &key.private.wrapped_key,
                    &key.private.master_key,
                    key.activates_at,
                    unless_after,
                ],
            )
            .await;
        // Of two instances that find a key due at the same time, one gets the serial number.
        match added.map_err(|error| or_exists(error, "the signing key")) {
            Ok(added) => Ok(added == 1),
            Err(StoreError::Exists(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets keys of `algorithm` that were followed by another one that activated before `before`; says how many.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn drop_signing_keys(&mut self, algorithm: &str, before: i64) -> Result<u64, StoreError> {
        Ok(self
            .tx
            .execute(
                "DELETE FROM signing_keys WHERE algorithm = $1 AND serial <
                 (SELECT MAX(serial) FROM signing_keys WHERE algorithm = $1 AND activates_at < $2)",
                params![algorithm, before],
            )
            .await?)
    }

    /// Takes a key away; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_signing_key(&mut self, kid: &str) -> Result<bool, StoreError> {
        Ok(self.tx.execute("DELETE FROM signing_keys WHERE kid = $1", params![kid]).await? == 1)
    }

    /// Replaces the wrapped key of a signing key; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn rewrap_signing_key(&mut self, kid: &str, sealed: &Sealed) -> Result<bool, StoreError> {
        let rewrapped = self
            .tx
            .execute(
                "UPDATE signing_keys SET wrapped_key = $2, master_key = $3 WHERE kid = $1",
                params![kid, &sealed.wrapped_key, &sealed.master_key],
            )
            .await?;
        Ok(rewrapped == 1)
    }
}

impl Store {
    /// All signing keys: by algorithm, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn signing_keys(&self) -> Result<Vec<StoredSigningKey>, StoreError> {
        let rows =
            self.db.fetch_all("SELECT * FROM signing_keys ORDER BY algorithm, serial", params![]).await?;
        rows.into_iter().map(StoredSigningKey::try_from).collect()
    }

    /// The key that signs at `now`: the newest that is active.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn active_signing_key(
        &self,
        algorithm: &str,
        now: i64,
    ) -> Result<Option<StoredSigningKey>, StoreError> {
        let row = self
            .db
            .fetch_optional(
                "SELECT * FROM signing_keys WHERE algorithm = $1 AND activates_at <= $2
                 ORDER BY serial DESC LIMIT 1",
                params![algorithm, now],
            )
            .await?;
        row.map(StoredSigningKey::try_from).transpose()
    }

    /// The signing key of this name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn signing_key(&self, kid: &str) -> Result<Option<StoredSigningKey>, StoreError> {
        let row = self.db.fetch_optional("SELECT * FROM signing_keys WHERE kid = $1", params![kid]).await?;
        row.map(StoredSigningKey::try_from).transpose()
    }
}
