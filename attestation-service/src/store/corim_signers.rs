//! Keys whose signature on reference values is believed.

use verifier::{Provenance, PublicKey};

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_exists, provenance};
use crate::api::Endorsed;

/// A signer as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSigner {
    /// The operator's name for it; it becomes part of the provenance of what it signed.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// What it is believed about.
    pub endorses: Vec<Endorsed>,
    /// Where it came from.
    pub provenance: Provenance,
}

impl TryFrom<Row> for StoredSigner {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt("CoRIM signer");
        Ok(Self {
            name: row.get("name")?,
            key: PublicKey::from_sec1(&row.get::<Vec<u8>>("public_key")?).map_err(|_| corrupt())?,
            endorses: serde_json::from_str(&row.get::<String>("endorses")?).map_err(|_| corrupt())?,
            provenance: provenance(&row)?,
        })
    }
}

impl Change {
    /// Registers a signer.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_corim_signer(&mut self, signer: &StoredSigner) -> Result<(), StoreError> {
        let provenance = &signer.provenance;
        let endorses = serde_json::to_string(&signer.endorses);
        let endorses = endorses.map_err(|_| StoreError::Corrupt("CoRIM signer"))?;
        self.tx
            .execute(
                "INSERT INTO corim_signers (name, public_key, endorses, source, added_at)
                 VALUES ($1, $2, $3, $4, $5)",
                params![
                    &signer.name,
                    signer.key.sec1_point(),
                    &endorses,
                    &provenance.source,
                    provenance.added_at,
                ],
            )
            .await
            .map_err(|error| or_exists(error, "a CoRIM signer with this name exists; delete it first"))?;
        Ok(())
    }

    /// Removes a signer; says whether it was there. What it signed stays registered.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_corim_signer(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.tx.execute("DELETE FROM corim_signers WHERE name = $1", params![name]).await? == 1)
    }
}

impl Store {
    /// All signers by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn corim_signers(&self) -> Result<Vec<StoredSigner>, StoreError> {
        let rows = self.db.fetch_all("SELECT * FROM corim_signers ORDER BY name", params![]).await?;
        rows.into_iter().map(StoredSigner::try_from).collect()
    }
}
