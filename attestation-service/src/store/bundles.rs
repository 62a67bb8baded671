//! Certificates of the authorities that certify devices, and their revocation lists.

use verifier::Provenance;

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_exists};

/// Certificates that are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBundle {
    /// The operator's name for it.
    pub name: String,
    /// The certificates in PEM.
    pub pem: String,
    /// Where they came from.
    pub provenance: Provenance,
}

/// A certificate revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// The operator's name for it.
    pub name: String,
    /// The list in DER.
    pub der: Vec<u8>,
    /// Where it came from.
    pub provenance: Provenance,
}

fn provenance(row: &Row) -> Result<Provenance, StoreError> {
    Ok(Provenance { source: row.get("source")?, added_at: row.get("added_at")? })
}

impl TryFrom<Row> for StoredBundle {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self { name: row.get("name")?, pem: row.get("pem")?, provenance: provenance(&row)? })
    }
}

impl TryFrom<Row> for Crl {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self { name: row.get("name")?, der: row.get("der")?, provenance: provenance(&row)? })
    }
}

impl Change {
    /// Registers a bundle.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_bundle(&mut self, bundle: &StoredBundle) -> Result<(), StoreError> {
        let provenance = &bundle.provenance;
        self.tx
            .execute(
                "INSERT INTO trust_bundles (name, pem, source, added_at) VALUES ($1, $2, $3, $4)",
                params![&bundle.name, &bundle.pem, &provenance.source, provenance.added_at],
            )
            .await
            .map_err(|error| or_exists(error, "a trust bundle with this name exists; delete it first"))?;
        self.authorities_changed().await
    }

    /// Removes a bundle; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_bundle(&mut self, name: &str) -> Result<bool, StoreError> {
        self.authorities_changed().await?;
        Ok(self.tx.execute("DELETE FROM trust_bundles WHERE name = $1", params![name]).await? == 1)
    }

    /// Registers a revocation list, in place of the one of this name: an authority publishes a new one regularly.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn set_crl(&mut self, crl: &Crl) -> Result<(), StoreError> {
        self.tx
            .execute(
                "INSERT INTO crls (name, der, source, added_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (name) DO UPDATE
                 SET der = excluded.der, source = excluded.source, added_at = excluded.added_at",
                params![&crl.name, &crl.der, &crl.provenance.source, crl.provenance.added_at],
            )
            .await?;
        self.authorities_changed().await
    }

    /// Removes a revocation list; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_crl(&mut self, name: &str) -> Result<bool, StoreError> {
        self.authorities_changed().await?;
        Ok(self.tx.execute("DELETE FROM crls WHERE name = $1", params![name]).await? == 1)
    }

    async fn authorities_changed(&mut self) -> Result<(), StoreError> {
        self.tx
            .execute(
                "INSERT INTO revisions (name, revision) VALUES ('authorities', 1)
                 ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1",
                params![],
            )
            .await?;
        Ok(())
    }
}

impl Store {
    /// A number that changes whenever a bundle or a revocation list does.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn authorities_revision(&self) -> Result<i64, StoreError> {
        let row = self
            .db
            .fetch_optional("SELECT revision FROM revisions WHERE name = 'authorities'", params![])
            .await?;
        Ok(row.map(|row| row.get("revision")).transpose()?.unwrap_or(0))
    }

    /// All bundles by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn bundles(&self) -> Result<Vec<StoredBundle>, StoreError> {
        let rows = self.db.fetch_all("SELECT * FROM trust_bundles ORDER BY name", params![]).await?;
        rows.into_iter().map(StoredBundle::try_from).collect()
    }

    /// All revocation lists by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn crls(&self) -> Result<Vec<Crl>, StoreError> {
        let rows = self.db.fetch_all("SELECT * FROM crls ORDER BY name", params![]).await?;
        rows.into_iter().map(Crl::try_from).collect()
    }
}
