//! Resources: what is released to an attested key.

use zeroize::Zeroizing;

use super::{Store, StoreError, or_exists};
use crate::names::ResourceName;

/// A resource without its content.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ResourceEntry {
    /// Who owns it.
    pub vendor: String,
    /// Its path within the vendor.
    pub path: String,
    /// Length of the content in bytes.
    pub size: i64,
    /// When it was registered, seconds since the Unix epoch.
    pub added_at: i64,
}

impl Store {
    /// Registers a resource.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_resource(
        &self,
        name: &ResourceName,
        content: &[u8],
        now: i64,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO resources (vendor, path, content, added_at) VALUES (?1, ?2, ?3, ?4)")
            .bind(name.vendor.as_str())
            .bind(name.path())
            .bind(content)
            .bind(now)
            .execute(&self.pool)
            .await
            .map_err(|error| or_exists(error, "a resource with this name exists; delete it first"))?;
        Ok(())
    }

    /// All resources by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resources(&self) -> Result<Vec<ResourceEntry>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT vendor, path, length(content) AS size, added_at FROM resources ORDER BY vendor, path",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The content of a resource.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resource(&self, name: &ResourceName) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT content FROM resources WHERE vendor = ?1 AND path = ?2")
                .bind(name.vendor.as_str())
                .bind(name.path())
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(content,)| Zeroizing::new(content)))
    }

    /// Removes a resource; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_resource(&self, name: &ResourceName) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM resources WHERE vendor = ?1 AND path = ?2")
            .bind(name.vendor.as_str())
            .bind(name.path())
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected() == 1)
    }
}
