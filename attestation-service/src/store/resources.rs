//! Resources: what is released to an attested key. Their contents come here sealed.

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_conflict};
use crate::names::ResourceName;
use crate::vault::Sealed;

/// A resource without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceEntry {
    /// Its name.
    pub name: ResourceName,
    /// 1 for its first content.
    pub version: i64,
    /// Length of the content in bytes.
    pub size: i64,
    /// When the content was registered, seconds since the Unix epoch.
    pub added_at: i64,
}

/// A resource with its content.
#[derive(Clone, Debug)]
pub struct StoredResource {
    /// What is known of it.
    pub entry: ResourceEntry,
    /// The content.
    pub content: Sealed,
}

impl TryFrom<&Row> for ResourceEntry {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        let (vendor, path): (String, String) = (row.get("vendor")?, row.get("path")?);
        Ok(Self {
            name: ResourceName::new(Some(&vendor), &path).map_err(|_| StoreError::Corrupt("resource"))?,
            version: row.get("version")?,
            size: row.get("size")?,
            added_at: row.get("added_at")?,
        })
    }
}

impl TryFrom<Row> for StoredResource {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let content = Sealed {
            content: row.get("content")?,
            wrapped_key: row.get("wrapped_key")?,
            master_key: row.get("master_key")?,
        };
        Ok(Self { entry: ResourceEntry::try_from(&row)?, content })
    }
}

impl Change {
    /// The version of a resource; 0 if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resource_version(&mut self, name: &ResourceName) -> Result<i64, StoreError> {
        let row = self
            .tx
            .fetch_optional(
                "SELECT version FROM resources WHERE vendor = $1 AND path = $2",
                params![name.vendor.as_str(), name.path()],
            )
            .await?;
        Ok(row.map(|row| row.get("version")).transpose()?.unwrap_or(0))
    }

    /// Registers a resource, or the next version of one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if its version is not the one before.
    pub async fn set_resource(&mut self, resource: &StoredResource) -> Result<(), StoreError> {
        let (entry, sealed) = (&resource.entry, &resource.content);
        let written = self
            .tx
            .execute(
                "INSERT INTO resources
                 (vendor, path, version, size, content, wrapped_key, master_key, added_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (vendor, path) DO UPDATE SET version = excluded.version, size = excluded.size,
                 content = excluded.content, wrapped_key = excluded.wrapped_key,
                 master_key = excluded.master_key, added_at = excluded.added_at
                 WHERE resources.version = excluded.version - 1",
                params![
                    entry.name.vendor.as_str(),
                    entry.name.path(),
                    entry.version,
                    entry.size,
                    &sealed.content,
                    &sealed.wrapped_key,
                    &sealed.master_key,
                    entry.added_at,
                ],
            )
            .await
            .map_err(|error| or_conflict(error, "the resource"))?;
        if written != 1 {
            return Err(StoreError::Conflict("the resource"));
        }
        self.digest = Some(sealed.digest());
        Ok(())
    }

    /// Removes a resource and its bindings; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_resource(&mut self, name: &ResourceName) -> Result<bool, StoreError> {
        let deleted = self
            .tx
            .execute(
                "DELETE FROM resources WHERE vendor = $1 AND path = $2",
                params![name.vendor.as_str(), name.path()],
            )
            .await?;
        Ok(deleted == 1)
    }

    /// Replaces the wrapped key of a resource; says whether it was still the version that `entry` names.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn rewrap_resource(
        &mut self,
        entry: &ResourceEntry,
        sealed: &Sealed,
    ) -> Result<bool, StoreError> {
        let rewrapped = self
            .tx
            .execute(
                "UPDATE resources SET wrapped_key = $4, master_key = $5
                 WHERE vendor = $1 AND path = $2 AND version = $3",
                params![
                    entry.name.vendor.as_str(),
                    entry.name.path(),
                    entry.version,
                    &sealed.wrapped_key,
                    &sealed.master_key,
                ],
            )
            .await?;
        Ok(rewrapped == 1)
    }
}

impl Store {
    /// All resources by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resources(&self) -> Result<Vec<ResourceEntry>, StoreError> {
        let rows = self
            .db
            .fetch_all(
                "SELECT vendor, path, version, size, added_at FROM resources ORDER BY vendor, path",
                params![],
            )
            .await?;
        rows.iter().map(ResourceEntry::try_from).collect()
    }

    /// A resource.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resource(&self, name: &ResourceName) -> Result<Option<StoredResource>, StoreError> {
        let row = self
            .db
            .fetch_optional(
                "SELECT * FROM resources WHERE vendor = $1 AND path = $2",
                params![name.vendor.as_str(), name.path()],
            )
            .await?;
        row.map(StoredResource::try_from).transpose()
    }

    /// Up to `limit` resources whose keys are not wrapped by the master key `master_key`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resources_not_under(
        &self,
        master_key: &str,
        limit: u32,
    ) -> Result<Vec<StoredResource>, StoreError> {
        let rows = self
            .db
            .fetch_all(
                "SELECT * FROM resources WHERE master_key <> $1 ORDER BY vendor, path LIMIT $2",
                params![master_key, limit],
            )
            .await?;
        rows.into_iter().map(StoredResource::try_from).collect()
    }
}
