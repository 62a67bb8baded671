//! Documents in the order in which they were added, by their number in the journal: whoever has seen one number has seen
//! all before it.

use service_kit::db::params;

use super::documents::{RawEntry, RawRow};
use super::{Document, Registered, Store, StoreError};

/// A document with its number.
#[derive(Clone, Debug)]
pub struct Numbered<T> {
    /// The number of the entry by which it was added.
    pub seq: i64,
    /// The document.
    pub document: Document<T>,
}

/// Which way from a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those after it, the first of them first.
    After,
    /// Those before it, the last of them first.
    Before,
}

impl Store {
    /// At most `limit` documents of a tenant from `seq` on, whose names begin with `prefix`. Those that were deleted since are
    /// not among them.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if one is not what the service made of it.
    pub async fn numbered<T: Registered>(
        &self,
        tenant: &str,
        seq: i64,
        direction: Direction,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Numbered<T>>, StoreError> {
        const AFTER: &str =
            "SELECT j.seq, j.tenant, j.id, j.version, j.gone, j.tag, j.actor, j.at, j.prev, j.key_id,
            j.mac, d.name, d.version AS row_version, d.body, d.key_id AS row_key_id, d.tag AS row_tag
            FROM journal j JOIN documents d ON d.kind = j.kind AND d.tenant = j.tenant AND d.id = j.id
            WHERE j.kind = $1 AND j.tenant = $2 AND j.version = 1 AND j.seq > $3
            AND substr(d.name, 1, CAST($5 AS INTEGER)) = $4 ORDER BY j.seq LIMIT $6";
        const BEFORE: &str =
            "SELECT j.seq, j.tenant, j.id, j.version, j.gone, j.tag, j.actor, j.at, j.prev, j.key_id,
            j.mac, d.name, d.version AS row_version, d.body, d.key_id AS row_key_id, d.tag AS row_tag
            FROM journal j JOIN documents d ON d.kind = j.kind AND d.tenant = j.tenant AND d.id = j.id
            WHERE j.kind = $1 AND j.tenant = $2 AND j.version = 1 AND j.seq < $3
            AND substr(d.name, 1, CAST($5 AS INTEGER)) = $4 ORDER BY j.seq DESC LIMIT $6";
        let statement = match direction {
            Direction::After => AFTER,
            Direction::Before => BEFORE,
        };
        let mut numbered = Vec::new();
        // Databases do not agree on what the length of a text is.
        let characters = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
        let params = params![T::KIND.name(), tenant, seq, prefix, characters, limit];
        for found in self.db.fetch_all(statement, params).await? {
            let entry = RawEntry::read(&found)?;
            let row = RawRow {
                tenant: entry.tenant.clone(),
                id: entry.id.clone(),
                name: found.get("name")?,
                version: found.get("row_version")?,
                body: found.get("body")?,
                key_id: found.get("row_key_id")?,
                tag: found.get("row_tag")?,
            };
            let seq = entry.seq;
            let document = self.believe::<T>(Some(row), Some(entry)).await?;
            numbered.extend(document.map(|document| Numbered { seq, document }));
        }
        Ok(numbered)
    }

    /// Tenants with changes of documents of this kind after `seq`, and the number of the last one of each.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn changed_after<T: Registered>(&self, seq: i64) -> Result<Vec<(String, i64)>, StoreError> {
        const FIND: &str =
            "SELECT tenant, MAX(seq) AS last FROM journal WHERE kind = $1 AND seq > $2 GROUP BY tenant";
        let rows = self.db.fetch_all(FIND, params![T::KIND.name(), seq]).await?;
        Ok(rows
            .iter()
            .map(|row| Ok((row.get("tenant")?, row.get("last")?)))
            .collect::<Result<_, sqlx::Error>>()?)
    }

    /// The number of the last change of a document of this kind, whosever it is; 0 if there was none.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn last_number<T: Registered>(&self) -> Result<i64, StoreError> {
        const FIND: &str = "SELECT seq FROM heads WHERE kind = $1";
        let row = self.db.fetch_optional(FIND, params![T::KIND.name()]).await?;
        Ok(row.map_or(Ok(0), |row| row.get("seq"))?)
    }
}
