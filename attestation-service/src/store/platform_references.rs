//! Registered reference values of CCA platforms: their software and configuration.

use serde::{Deserialize, Serialize};
use verifier::PlatformReference;
use verifier::corim::PlatformEndorsement;

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_exists, provenance};
use crate::api::{ExpectedComponent, ExpectedConfig};

/// The column `expected`.
#[derive(Serialize, Deserialize)]
struct Expected {
    components: Vec<ExpectedComponent>,
    config: ExpectedConfig,
}

const CORRUPT: StoreError = StoreError::Corrupt("platform reference");

fn read(row: &Row) -> Result<PlatformReference, StoreError> {
    let Expected { components, config } =
        serde_json::from_str(&row.get::<String>("expected")?).map_err(|_| CORRUPT)?;
    let instance_id: Option<Vec<u8>> = row.get("instance_id")?;
    Ok(PlatformReference {
        name: row.get("name")?,
        expected: PlatformEndorsement {
            implementation_id: row.get::<Vec<u8>>("implementation_id")?.try_into().map_err(|_| CORRUPT)?,
            instance_id: instance_id.map(|id| id.try_into().map_err(|_| CORRUPT)).transpose()?,
            components: components.into_iter().map(Into::into).collect(),
            configuration: config.into(),
        },
        provenance: provenance(row)?,
        expires_at: row.get("expires_at")?,
    })
}

impl Change {
    /// Registers a reference value of platforms.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_platform_reference(&mut self, reference: &PlatformReference) -> Result<(), StoreError> {
        let PlatformReference { name, expected, provenance, expires_at } = reference;
        let text = serde_json::to_string(&Expected {
            components: expected.components.iter().cloned().map(Into::into).collect(),
            config: expected.configuration.clone().into(),
        });
        let text = text.map_err(|_| CORRUPT)?;
        self.tx
            .execute(
                "INSERT INTO platform_references
                 (name, implementation_id, instance_id, expected, source, added_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                params![
                    name,
                    &expected.implementation_id,
                    expected.instance_id.as_ref().map(<[u8; 33]>::as_slice),
                    &text,
                    &provenance.source,
                    provenance.added_at,
                    *expires_at,
                ],
            )
            .await
            .map_err(|error| or_exists(error, "a platform reference with this name exists"))?;
        Ok(())
    }

    /// Removes a reference value of platforms; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_platform_reference(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.tx.execute("DELETE FROM platform_references WHERE name = $1", params![name]).await? == 1)
    }
}

impl Store {
    /// All reference values of platforms by name, expired ones too.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn platform_references(&self) -> Result<Vec<PlatformReference>, StoreError> {
        let rows = self.db.fetch_all("SELECT * FROM platform_references ORDER BY name", params![]).await?;
        rows.iter().map(read).collect()
    }

    /// The reference values for platforms of this implementation, of whatever instance, expired ones too.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn platform_references_for(
        &self,
        implementation_id: &[u8; 32],
    ) -> Result<Vec<PlatformReference>, StoreError> {
        let rows = self
            .db
            .fetch_all(
                "SELECT * FROM platform_references WHERE implementation_id = $1 ORDER BY name",
                params![implementation_id],
            )
            .await?;
        rows.iter().map(read).collect()
    }
}
