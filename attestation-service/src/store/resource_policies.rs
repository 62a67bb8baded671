//! Registered resource policies, and which of them are bound to which resource.

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_conflict, sha256};
use crate::names::{PolicyName, ResourceName};

/// A resource policy as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResourcePolicy {
    /// Its name.
    pub name: PolicyName,
    /// 1 for the first text of this name, 0 for a built-in one.
    pub version: i64,
    /// Its Rego text.
    pub rego: String,
    /// When it was registered, seconds since the Unix epoch.
    pub added_at: i64,
}

impl StoredResourcePolicy {
    /// SHA-256 of its Rego text.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.rego.as_bytes())
    }
}

fn name(row: &Row, vendor: &str, id: &str) -> Result<PolicyName, StoreError> {
    let (vendor, id): (String, String) = (row.get(vendor)?, row.get(id)?);
    PolicyName::new(Some(&vendor), &id).map_err(|_| StoreError::Corrupt("resource policy"))
}

impl TryFrom<Row> for StoredResourcePolicy {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: name(&row, "vendor", "id")?,
            version: row.get("version")?,
            rego: row.get("rego")?,
            added_at: row.get("added_at")?,
        })
    }
}

impl Change {
    /// Registers a resource policy in place of the one of this name, if any; gives its version. The version in `policy`
    /// is not looked at.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another request does the same at the same time.
    pub async fn set_resource_policy(&mut self, policy: &StoredResourcePolicy) -> Result<i64, StoreError> {
        let (vendor, id) = (policy.name.vendor(), policy.name.id());
        self.delete_resource_policy(&policy.name).await?;
        let row = self
            .tx
            .fetch_optional(
                "INSERT INTO resource_policies (vendor, id, version, current, sha256, rego, added_at)
                 SELECT $1, $2, COALESCE(MAX(version), 0) + 1, 1, $3, $4, $5
                 FROM resource_policies WHERE vendor = $1 AND id = $2
                 RETURNING version",
                params![vendor, &id, &policy.sha256(), &policy.rego, policy.added_at],
            )
            .await
            .map_err(|error| or_conflict(error, "the resource policy"))?;
        Ok(row.ok_or(StoreError::Corrupt("resource policy"))?.get("version")?)
    }

    /// Ends a resource policy, whose versions stay on record; says whether it was in force. A resource to which it is
    /// bound is released to nobody.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_resource_policy(&mut self, name: &PolicyName) -> Result<bool, StoreError> {
        let ended = self
            .tx
            .execute(
                "UPDATE resource_policies SET current = 0 WHERE vendor = $1 AND id = $2 AND current = 1",
                params![name.vendor(), &name.id()],
            )
            .await?;
        Ok(ended == 1)
    }

    /// Ends every resource policy of a vendor; says how many were in force.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_resource_policies_of(&mut self, vendor: &str) -> Result<u64, StoreError> {
        Ok(self
            .tx
            .execute(
                "UPDATE resource_policies SET current = 0 WHERE vendor = $1 AND current = 1",
                params![vendor],
            )
            .await?)
    }

    /// Binds a policy to a resource; a binding that exists stays.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, or there is no such resource.
    pub async fn bind_policy(
        &mut self,
        resource: &ResourceName,
        policy: &PolicyName,
    ) -> Result<(), StoreError> {
        self.tx
            .execute(
                "INSERT INTO resource_bindings (vendor, path, policy_vendor, policy_id) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING",
                params![resource.vendor.as_str(), resource.path(), policy.vendor(), &policy.id()],
            )
            .await?;
        Ok(())
    }

    /// Takes a policy from a resource; says whether it was bound.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn unbind_policy(
        &mut self,
        resource: &ResourceName,
        policy: &PolicyName,
    ) -> Result<bool, StoreError> {
        let unbound = self
            .tx
            .execute(
                "DELETE FROM resource_bindings
                 WHERE vendor = $1 AND path = $2 AND policy_vendor = $3 AND policy_id = $4",
                params![resource.vendor.as_str(), resource.path(), policy.vendor(), &policy.id()],
            )
            .await?;
        Ok(unbound == 1)
    }
}

impl Store {
    /// All resource policies in force by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resource_policies(&self) -> Result<Vec<StoredResourcePolicy>, StoreError> {
        let rows = self
            .db
            .fetch_all("SELECT * FROM resource_policies WHERE current = 1 ORDER BY vendor, id", params![])
            .await?;
        rows.into_iter().map(StoredResourcePolicy::try_from).collect()
    }

    /// The resource policy of this name that is in force.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn resource_policy(
        &self,
        name: &PolicyName,
    ) -> Result<Option<StoredResourcePolicy>, StoreError> {
        let row = self
            .db
            .fetch_optional(
                "SELECT * FROM resource_policies WHERE vendor = $1 AND id = $2 AND current = 1",
                params![name.vendor(), &name.id()],
            )
            .await?;
        row.map(StoredResourcePolicy::try_from).transpose()
    }

    /// The policies that are bound to a resource, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn bound_policies(&self, resource: &ResourceName) -> Result<Vec<PolicyName>, StoreError> {
        let rows = self
            .db
            .fetch_all(
                "SELECT policy_vendor, policy_id FROM resource_bindings
                 WHERE vendor = $1 AND path = $2 ORDER BY policy_vendor, policy_id",
                params![resource.vendor.as_str(), resource.path()],
            )
            .await?;
        rows.iter().map(|row| name(row, "policy_vendor", "policy_id")).collect()
    }
}
