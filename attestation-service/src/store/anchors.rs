//! Registered trust anchors.

use verifier::{PublicKey, TrustAnchor};

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_exists, provenance};

/// A trust anchor and the platform that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformAnchor {
    /// Implementation id of the platform (cca-platform-implementation-id).
    pub implementation_id: [u8; 32],
    /// Instance id of the platform (cca-platform-instance-id).
    pub instance_id: [u8; 33],
    /// The anchor.
    pub anchor: TrustAnchor,
    /// When it ends to be believed, seconds since the Unix epoch; absent if never.
    pub expires_at: Option<i64>,
}

impl TryFrom<Row> for PlatformAnchor {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt("trust anchor");
        Ok(Self {
            implementation_id: row.get::<Vec<u8>>("implementation_id")?.try_into().map_err(|_| corrupt())?,
            instance_id: row.get::<Vec<u8>>("instance_id")?.try_into().map_err(|_| corrupt())?,
            anchor: TrustAnchor {
                name: row.get("name")?,
                key: PublicKey::from_sec1(&row.get::<Vec<u8>>("public_key")?).map_err(|_| corrupt())?,
                development: row.flag("development")?,
                provenance: provenance(&row)?,
            },
            expires_at: row.get("expires_at")?,
        })
    }
}

impl Change {
    /// Registers a trust anchor.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name or the pair of identifiers is taken.
    pub async fn add_anchor(&mut self, platform: &PlatformAnchor) -> Result<(), StoreError> {
        let anchor = &platform.anchor;
        self.tx
            .execute(
                "INSERT INTO trust_anchors
                 (name, implementation_id, instance_id, public_key, development, source, added_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                params![
                    &anchor.name,
                    &platform.implementation_id,
                    &platform.instance_id,
                    anchor.key.sec1_point(),
                    anchor.development,
                    &anchor.provenance.source,
                    anchor.provenance.added_at,
                    platform.expires_at,
                ],
            )
            .await
            .map_err(|error| {
                or_exists(
                    error,
                    "a trust anchor with this name, or for this implementation id and instance id, exists",
                )
            })?;
        Ok(())
    }

    /// Removes a trust anchor; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_anchor(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.tx.execute("DELETE FROM trust_anchors WHERE name = $1", params![name]).await? == 1)
    }
}

impl Store {
    /// All trust anchors by name, expired ones too.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn anchors(&self) -> Result<Vec<PlatformAnchor>, StoreError> {
        let rows = self.db.fetch_all("SELECT * FROM trust_anchors ORDER BY name", params![]).await?;
        rows.into_iter().map(PlatformAnchor::try_from).collect()
    }

    /// The trust anchor of one platform, if it is valid at `now`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn anchor(
        &self,
        implementation_id: &[u8; 32],
        instance_id: &[u8; 33],
        now: i64,
    ) -> Result<Option<TrustAnchor>, StoreError> {
        let row = self
            .db
            .fetch_optional(
                "SELECT * FROM trust_anchors WHERE implementation_id = $1 AND instance_id = $2
                 AND (expires_at IS NULL OR expires_at > $3)",
                params![implementation_id, instance_id, now],
            )
            .await?;
        row.map(|row| PlatformAnchor::try_from(row).map(|platform| platform.anchor)).transpose()
    }
}
