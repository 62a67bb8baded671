//! Registered appraisal policies.

use sqlx::FromRow;
use verifier::Exception;

use super::{Store, StoreError, or_exists};

/// A policy as it was registered.
#[derive(Clone, Debug)]
pub struct StoredPolicy {
    /// Its name.
    pub id: String,
    /// Its Rego text.
    pub rego: String,
    /// Its exceptions.
    pub exceptions: Vec<Exception>,
    /// When it was registered, seconds since the Unix epoch.
    pub added_at: i64,
}

#[derive(FromRow)]
struct Row {
    id: String,
    rego: String,
    exceptions: String,
    added_at: i64,
}

impl TryFrom<Row> for StoredPolicy {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let exceptions = serde_json::from_str(&row.exceptions).map_err(|_| StoreError::Corrupt("policy"))?;
        Ok(Self { id: row.id, rego: row.rego, exceptions, added_at: row.added_at })
    }
}

impl Store {
    /// Registers a policy.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_policy(&self, policy: &StoredPolicy) -> Result<(), StoreError> {
        let exceptions =
            serde_json::to_string(&policy.exceptions).map_err(|_| StoreError::Corrupt("policy"))?;
        sqlx::query("INSERT INTO policies (id, rego, exceptions, added_at) VALUES (?1, ?2, ?3, ?4)")
            .bind(&policy.id)
            .bind(&policy.rego)
            .bind(exceptions)
            .bind(policy.added_at)
            .execute(&self.pool)
            .await
            .map_err(|error| or_exists(error, "a policy with this id exists; delete it first"))?;
        Ok(())
    }

    /// All policies by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn policies(&self) -> Result<Vec<StoredPolicy>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM policies ORDER BY id").fetch_all(&self.pool).await?;
        rows.into_iter().map(StoredPolicy::try_from).collect()
    }

    /// One policy.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn policy(&self, id: &str) -> Result<Option<StoredPolicy>, StoreError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM policies WHERE id = ?1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.map(StoredPolicy::try_from).transpose()
    }

    /// Removes a policy; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_policy(&self, id: &str) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM policies WHERE id = ?1").bind(id).execute(&self.pool).await?;
        Ok(deleted.rows_affected() == 1)
    }
}
