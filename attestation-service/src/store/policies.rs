//! Registered appraisal policies. Old versions are kept: tokens name policies by the digest of their text.

use serde::de::DeserializeOwned;
use verifier::{Exception, Rules};

use super::db::{Row, params};
use super::{Change, Store, StoreError, or_conflict, sha256};

/// A policy as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Its name.
    pub id: String,
    /// 1 for the first text of this name, 0 for a built-in one.
    pub version: i64,
    /// Its Rego text.
    pub rego: String,
    /// Its exceptions.
    pub exceptions: Vec<Exception>,
    /// Its typed rules.
    pub rules: Rules,
    /// When it was registered, seconds since the Unix epoch.
    pub added_at: i64,
}

impl StoredPolicy {
    /// SHA-256 of its Rego text.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.rego.as_bytes())
    }
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("policy"))
}

impl TryFrom<Row> for StoredPolicy {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let exceptions = parsed(&row.get::<String>("exceptions")?)?;
        let rules = parsed(&row.get::<String>("rules")?)?;
        Ok(Self {
            id: row.get("id")?,
            version: row.get("version")?,
            rego: row.get("rego")?,
            exceptions,
            rules,
            added_at: row.get("added_at")?,
        })
    }
}

impl Change {
    /// Registers a policy under a new name; the version in `policy` is not looked at.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name is taken.
    pub async fn add_policy(&mut self, policy: &StoredPolicy) -> Result<i64, StoreError> {
        let current = self
            .tx
            .fetch_optional("SELECT id FROM policies WHERE id = $1 AND current = 1", params![&policy.id])
            .await?;
        if current.is_some() {
            return Err(StoreError::Exists("a policy with this id exists; replace it, or delete it first"));
        }
        self.set_policy(policy).await
    }

    /// Registers a policy in place of the one of this name, if any; gives its version. The version in `policy` is not
    /// looked at.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another request does the same at the same time.
    pub async fn set_policy(&mut self, policy: &StoredPolicy) -> Result<i64, StoreError> {
        let corrupt = |_| StoreError::Corrupt("policy");
        let exceptions = serde_json::to_string(&policy.exceptions).map_err(corrupt)?;
        let rules = serde_json::to_string(&policy.rules).map_err(corrupt)?;
        self.delete_policy(&policy.id).await?;
        let row = self
            .tx
            .fetch_optional(
                "INSERT INTO policies (id, version, current, sha256, rego, exceptions, rules, added_at)
                 SELECT $1, COALESCE(MAX(version), 0) + 1, 1, $2, $3, $4, $5, $6 FROM policies WHERE id = $1
                 RETURNING version",
                params![&policy.id, &policy.sha256(), &policy.rego, &exceptions, &rules, policy.added_at],
            )
            .await
            .map_err(|error| or_conflict(error, "the policy"))?;
        Ok(row.ok_or(StoreError::Corrupt("policy"))?.get("version")?)
    }

    /// Ends a policy, whose versions stay on record; says whether it was in force.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn delete_policy(&mut self, id: &str) -> Result<bool, StoreError> {
        let ended = self
            .tx
            .execute("UPDATE policies SET current = 0 WHERE id = $1 AND current = 1", params![id])
            .await?;
        Ok(ended == 1)
    }
}

impl Store {
    /// All policies in force by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn policies(&self) -> Result<Vec<StoredPolicy>, StoreError> {
        let rows =
            self.db.fetch_all("SELECT * FROM policies WHERE current = 1 ORDER BY id", params![]).await?;
        rows.into_iter().map(StoredPolicy::try_from).collect()
    }

    /// The policy of this name that is in force.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn policy(&self, id: &str) -> Result<Option<StoredPolicy>, StoreError> {
        let row = self
            .db
            .fetch_optional("SELECT * FROM policies WHERE id = $1 AND current = 1", params![id])
            .await?;
        row.map(StoredPolicy::try_from).transpose()
    }

    /// Every version that a policy ever had, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn policy_versions(&self, id: &str) -> Result<Vec<StoredPolicy>, StoreError> {
        let rows =
            self.db.fetch_all("SELECT * FROM policies WHERE id = $1 ORDER BY version", params![id]).await?;
        rows.into_iter().map(StoredPolicy::try_from).collect()
    }
}
