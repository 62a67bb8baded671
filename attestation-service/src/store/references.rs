//! Registered reference values: those of Realms, and secGear's, which are any JSON value under a name.

use std::collections::BTreeSet;
use std::sync::Arc;

use evidence::hash::Digest;
use serde_json::{Map, Value};
use verifier::{Provenance, RealmReference};

use super::db::{Param, Row, params};
use super::{Change, Store, StoreError, or_exists, provenance, sha256};

/// A Realm's reference value as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReference {
    /// The measurements.
    pub reference: RealmReference,
    /// When it ends to be valid, seconds since the Unix epoch; absent if never.
    pub expires_at: Option<i64>,
}

/// One of secGear's reference values: a name may have many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedReference {
    /// The name of the claim, as in a token's `tcb_status`.
    pub name: String,
    /// A value that the claim may have.
    pub value: Value,
    /// Where it came from.
    pub provenance: Provenance,
    /// When it ends to be valid, seconds since the Unix epoch; absent if never.
    pub expires_at: Option<i64>,
}

impl TryFrom<Row> for StoredReference {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt("reference value");
        let digest = |bytes: Vec<u8>| Digest::from_slice(&bytes).ok_or_else(corrupt);
        let optional =
            |column| row.get::<Option<Vec<u8>>>(column).map_err(StoreError::from)?.map(digest).transpose();
        let rpv: Option<Vec<u8>> = row.get("rpv")?;
        let logs: Option<String> = row.get("logs")?;
        Ok(Self {
            reference: RealmReference {
                name: row.get("name")?,
                rim: digest(row.get("rim")?)?,
                rpv: rpv.map(|rpv| rpv.try_into().map_err(|_| corrupt())).transpose()?,
                rems: [optional("rem0")?, optional("rem1")?, optional("rem2")?, optional("rem3")?],
                logs: logs
                    .map(|text| serde_json::from_str(&text).map(Arc::new))
                    .transpose()
                    .map_err(|_| corrupt())?,
                provenance: provenance(&row)?,
            },
            expires_at: row.get("expires_at")?,
        })
    }
}

impl TryFrom<Row> for NamedReference {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.get("name")?,
            value: serde_json::from_str(&row.get::<String>("value")?)
                .map_err(|_| StoreError::Corrupt("reference value"))?,
            provenance: provenance(&row)?,
            expires_at: row.get("expires_at")?,
        })
    }
}

/// How many values [`LOOK_UP`] looks for: evidence has about twenty claims.
const LOOKED_UP: usize = 24;

/// The names of registered values, by their digests.
const LOOK_UP: &str = "SELECT name FROM named_references
    WHERE (expires_at IS NULL OR expires_at > $1)
    AND digest IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                   $23, $24, $25)";

/// The name's length keeps `a` with `"b"` apart from any other division of the same bytes.
fn digest(name: &str, value: &str) -> [u8; 32] {
    let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
    sha256(&[&length.to_be_bytes(), name.as_bytes(), value.as_bytes()].concat())
}

impl Change {
    /// Registers a reference value.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_reference(&mut self, stored: &StoredReference) -> Result<(), StoreError> {
        let reference = &stored.reference;
        let [rem0, rem1, rem2, rem3] =
            reference.rems.each_ref().map(|rem| rem.as_ref().map(Digest::as_bytes));
        let logs = reference.logs.as_deref().map(serde_json::to_string).transpose();
        let logs = logs.map_err(|_| StoreError::Corrupt("reference value"))?;
        self.tx
            .execute(
                "INSERT INTO reference_values
                 (name, rim, rpv, rem0, rem1, rem2, rem3, logs, source, added_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                params![
                    &reference.name,
                    reference.rim.as_bytes(),
                    reference.rpv.as_ref().map(<[u8; 64]>::as_slice),
                    rem0,
                    rem1,
                    rem2,
                    rem3,
                    logs.as_deref(),
                    &reference.provenance.source,
                    reference.provenance.added_at,
                    stored.expires_at,
                ],
            )
            .await
            .map_err(|error| or_exists(error, "a reference value with this name exists"))?;
        Ok(())
    }

    /// Removes a reference value; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_reference(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.tx.execute("DELETE FROM reference_values WHERE name = $1", params![name]).await? == 1)
    }

    /// Registers a named value; one that is registered already gets the new provenance and expiry.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn set_named_reference(&mut self, named: &NamedReference) -> Result<(), StoreError> {
        let value = named.value.to_string();
        self.tx
            .execute(
                "INSERT INTO named_references (digest, name, value, source, added_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (digest) DO UPDATE SET source = excluded.source, added_at = excluded.added_at,
                 expires_at = excluded.expires_at",
                params![
                    &digest(&named.name, &value),
                    &named.name,
                    &value,
                    &named.provenance.source,
                    named.provenance.added_at,
                    named.expires_at,
                ],
            )
            .await?;
        Ok(())
    }

    /// Removes every value of a name; says how many there were.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_named_references(&mut self, name: &str) -> Result<u64, StoreError> {
        Ok(self.tx.execute("DELETE FROM named_references WHERE name = $1", params![name]).await?)
    }
}

impl Store {
    /// All reference values by name, expired ones too.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn references(&self) -> Result<Vec<StoredReference>, StoreError> {
        let rows = self.db.fetch_all("SELECT * FROM reference_values ORDER BY name", params![]).await?;
        rows.into_iter().map(StoredReference::try_from).collect()
    }

    /// The reference values with this initial measurement that are valid at `now`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn references_for(&self, rim: &Digest, now: i64) -> Result<Vec<StoredReference>, StoreError> {
        let rows = self
            .db
            .fetch_all(
                "SELECT * FROM reference_values
                 WHERE rim = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY name",
                params![rim.as_bytes(), now],
            )
            .await?;
        rows.into_iter().map(StoredReference::try_from).collect()
    }

    /// All named values by name, expired ones too.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn named_references(&self) -> Result<Vec<NamedReference>, StoreError> {
        let rows =
            self.db.fetch_all("SELECT * FROM named_references ORDER BY name, value", params![]).await?;
        rows.into_iter().map(NamedReference::try_from).collect()
    }

    /// The names under which exactly their value is registered and valid at `now`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn registered_names(
        &self,
        values: &Map<String, Value>,
        now: i64,
    ) -> Result<BTreeSet<String>, StoreError> {
        let digests: Vec<[u8; 32]> =
            values.iter().map(|(name, value)| digest(name, &value.to_string())).collect();
        let mut registered = BTreeSet::new();
        for digests in digests.chunks(LOOKED_UP) {
            let mut parameters = vec![Param::from(now)];
            parameters.extend(digests.iter().map(Param::from));
            // Nothing is equal to a null.
            parameters.resize(1 + LOOKED_UP, Param::Bytes(None));
            for row in self.db.fetch_all(LOOK_UP, &parameters).await? {
                registered.insert(row.get("name")?);
            }
        }
        Ok(registered)
    }
}
