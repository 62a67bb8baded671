//! Registered trust anchors.

use sqlx::FromRow;
use verifier::{Provenance, PublicKey, TrustAnchor};

use super::{Store, StoreError, or_exists};

/// A trust anchor and the platform that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformAnchor {
    /// Implementation id of the platform (cca-platform-implementation-id).
    pub implementation_id: [u8; 32],
    /// Instance id of the platform (cca-platform-instance-id).
    pub instance_id: [u8; 33],
    /// The anchor.
    pub anchor: TrustAnchor,
}

#[derive(FromRow)]
struct Row {
    name: String,
    implementation_id: Vec<u8>,
    instance_id: Vec<u8>,
    public_key: Vec<u8>,
    development: bool,
    source: String,
    added_at: i64,
}

impl TryFrom<Row> for PlatformAnchor {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt("trust anchor");
        Ok(Self {
            implementation_id: row.implementation_id.try_into().map_err(|_| corrupt())?,
            instance_id: row.instance_id.try_into().map_err(|_| corrupt())?,
            anchor: TrustAnchor {
                name: row.name,
                key: PublicKey::from_sec1(&row.public_key).map_err(|_| corrupt())?,
                development: row.development,
                provenance: Provenance { source: row.source, added_at: row.added_at },
            },
        })
    }
}

impl Store {
    /// Registers a trust anchor.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name or the pair of identifiers is taken.
    pub async fn add_anchor(&self, platform: &PlatformAnchor) -> Result<(), StoreError> {
        let anchor = &platform.anchor;
        sqlx::query(
            "INSERT INTO trust_anchors
             (name, implementation_id, instance_id, public_key, development, source, added_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(&anchor.name)
        .bind(platform.implementation_id.as_slice())
        .bind(platform.instance_id.as_slice())
        .bind(anchor.key.sec1_point())
        .bind(anchor.development)
        .bind(&anchor.provenance.source)
        .bind(anchor.provenance.added_at)
        .execute(&self.pool)
        .await
        .map_err(|error| {
            or_exists(
                error,
                "a trust anchor with this name, or for this implementation id and instance id, exists",
            )
        })?;
        Ok(())
    }

    /// All trust anchors by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn anchors(&self) -> Result<Vec<PlatformAnchor>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM trust_anchors ORDER BY name").fetch_all(&self.pool).await?;
        rows.into_iter().map(PlatformAnchor::try_from).collect()
    }

    /// The trust anchor of one platform.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn anchor(
        &self,
        implementation_id: &[u8; 32],
        instance_id: &[u8; 33],
    ) -> Result<Option<TrustAnchor>, StoreError> {
        let row: Option<Row> =
            sqlx::query_as("SELECT * FROM trust_anchors WHERE implementation_id = ?1 AND instance_id = ?2")
                .bind(implementation_id.as_slice())
                .bind(instance_id.as_slice())
                .fetch_optional(&self.pool)
                .await?;
        row.map(|row| PlatformAnchor::try_from(row).map(|platform| platform.anchor)).transpose()
    }

    /// Removes a trust anchor; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_anchor(&self, name: &str) -> Result<bool, StoreError> {
        let deleted =
            sqlx::query("DELETE FROM trust_anchors WHERE name = ?1").bind(name).execute(&self.pool).await?;
        Ok(deleted.rows_affected() == 1)
    }
}
