//! Registered reference values.

use evidence::hash::Digest;
use sqlx::FromRow;
use verifier::{Provenance, RealmReference};

use super::{Store, StoreError, or_exists};

#[derive(FromRow)]
struct Row {
    name: String,
    rim: Vec<u8>,
    rpv: Option<Vec<u8>>,
    rem0: Option<Vec<u8>>,
    rem1: Option<Vec<u8>>,
    rem2: Option<Vec<u8>>,
    rem3: Option<Vec<u8>>,
    source: String,
    added_at: i64,
}

impl TryFrom<Row> for RealmReference {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt("reference value");
        let digest = |bytes: Vec<u8>| Digest::from_slice(&bytes).ok_or_else(corrupt);
        let optional = |bytes: Option<Vec<u8>>| bytes.map(digest).transpose();
        Ok(Self {
            name: row.name,
            rim: digest(row.rim)?,
            rpv: row.rpv.map(|rpv| rpv.try_into().map_err(|_| corrupt())).transpose()?,
            rems: [optional(row.rem0)?, optional(row.rem1)?, optional(row.rem2)?, optional(row.rem3)?],
            logs: None,
            provenance: Provenance { source: row.source, added_at: row.added_at },
        })
    }
}

impl Store {
    /// Registers a reference value.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_reference(&self, reference: &RealmReference) -> Result<(), StoreError> {
        let [rem0, rem1, rem2, rem3] =
            reference.rems.each_ref().map(|rem| rem.as_ref().map(Digest::as_bytes));
        sqlx::query(
            "INSERT INTO reference_values (name, rim, rpv, rem0, rem1, rem2, rem3, source, added_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .bind(&reference.name)
        .bind(reference.rim.as_bytes())
        .bind(reference.rpv.as_ref().map(<[u8; 64]>::as_slice))
        .bind(rem0)
        .bind(rem1)
        .bind(rem2)
        .bind(rem3)
        .bind(&reference.provenance.source)
        .bind(reference.provenance.added_at)
        .execute(&self.pool)
        .await
        .map_err(|error| or_exists(error, "a reference value with this name exists"))?;
        Ok(())
    }

    /// All reference values by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn references(&self) -> Result<Vec<RealmReference>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM reference_values ORDER BY name").fetch_all(&self.pool).await?;
        rows.into_iter().map(RealmReference::try_from).collect()
    }

    /// The reference values with this initial measurement.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn references_for(&self, rim: &Digest) -> Result<Vec<RealmReference>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM reference_values WHERE rim = ?1 ORDER BY name")
            .bind(rim.as_bytes())
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(RealmReference::try_from).collect()
    }

    /// Removes a reference value; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_reference(&self, name: &str) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM reference_values WHERE name = ?1")
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected() == 1)
    }
}
