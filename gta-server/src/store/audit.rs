//! The journal as an audit trail: who changed which document when.

use service_kit::db::params;

use super::documents::RawEntry;
use super::{Store, StoreError};

/// A change of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kind of document.
    pub kind: String,
    /// The number of the change among those of this kind.
    pub seq: i64,
    /// The document.
    pub id: String,
    /// Its version since then.
    pub version: i64,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Who changed it.
    pub actor: String,
    /// When, seconds since the Unix epoch.
    pub at: i64,
}

/// Where a page ends: what comes next is older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: i64,
    /// The kind.
    pub kind: String,
    /// The number.
    pub seq: i64,
}

impl Store {
    /// At most `limit` changes of a tenant's documents that are older than `before`, the last first. Of one kind, if one is
    /// named; otherwise of all but events, which tell of themselves.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if one is not what the service wrote.
    pub async fn audit(
        &self,
        tenant: &str,
        kind: Option<&str>,
        before: &Mark,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        const FIND: &str =
            "SELECT kind, seq, tenant, id, version, gone, tag, actor, at, prev, key_id, mac FROM journal
            WHERE tenant = $1 AND (kind = $2 OR ($2 = '' AND kind <> 'event'))
            AND (at < $3 OR (at = $3 AND (kind < $4 OR (kind = $4 AND seq < $5))))
            ORDER BY at DESC, kind DESC, seq DESC LIMIT $6";
        let wanted = kind.unwrap_or_default();
        let params = params![tenant, wanted, before.at, &before.kind, before.seq, limit];
        let mut entries = Vec::new();
        for found in self.db.fetch_all(FIND, params).await? {
            let kind: String = found.get("kind")?;
            let entry = RawEntry::read(&found)?;
            if !self.is_authentic(&entry.key_id, &entry.fields(&kind), &entry.mac).await? {
                return Err(StoreError::Tampered {
                    kind: "journal",
                    tenant: entry.tenant,
                    id: entry.id,
                    reason: "the entry was changed behind the service's back",
                });
            }
            let RawEntry { seq, id, version, gone: deleted, actor, at, .. } = entry;
            entries.push(Entry { kind, seq, id, version, deleted, actor, at });
        }
        Ok(entries)
    }
}
