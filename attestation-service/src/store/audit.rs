//! The audit log: who changed or was given what, and with which result. Both databases refuse to change it.

use super::db::{Param, Row, params};
use super::{Store, StoreError};

pub(super) const INSERT: &str =
    "INSERT INTO audit (at, actor, action, object, digest, result) VALUES ($1, $2, $3, $4, $5, $6)";

/// The result of what was done.
pub const OK: &str = "ok";

/// Without it one page of the log could be as long as the log.
pub const MAX_PAGE: u32 = 1000;

/// Something that was done, or refused.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When, seconds since the Unix epoch.
    pub at: i64,
    /// Who.
    pub actor: &'a str,
    /// What they did: `policy.add`, `resource.release`, ...
    pub action: &'a str,
    /// To what.
    pub object: &'a str,
    /// SHA-256 of the content, where there is one.
    pub digest: Option<[u8; 32]>,
    /// [`OK`], or the machine code of the refusal.
    pub result: &'a str,
}

impl Entry<'_> {
    pub(super) fn params(&self) -> [Param<'_>; 6] {
        [
            self.at.into(),
            self.actor.into(),
            self.action.into(),
            self.object.into(),
            self.digest.as_ref().map(<[u8; 32]>::as_slice).into(),
            self.result.into(),
        ]
    }
}

/// An entry as it was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its place in the log.
    pub seq: i64,
    /// When, seconds since the Unix epoch.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What they did.
    pub action: String,
    /// To what.
    pub object: String,
    /// SHA-256 of the content, where there is one.
    pub digest: Option<Vec<u8>>,
    /// `ok`, or the machine code of the refusal.
    pub result: String,
}

impl TryFrom<Row> for Recorded {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.get("seq")?,
            at: row.get("at")?,
            actor: row.get("actor")?,
            action: row.get("action")?,
            object: row.get("object")?,
            digest: row.get("digest")?,
            result: row.get("result")?,
        })
    }
}

impl Store {
    /// Records what no [`Change`](super::Change) carries: a release, or something refused.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used; a release must then not happen.
    pub async fn record(&self, entry: &Entry<'_>) -> Result<(), StoreError> {
        self.db.execute(INSERT, &entry.params()).await?;
        Ok(())
    }

    /// Up to `limit` entries (at most [`MAX_PAGE`]) after the entry `after`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn audit_log(&self, after: i64, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        let rows = self
            .db
            .fetch_all(
                "SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2",
                params![after, limit.min(MAX_PAGE)],
            )
            .await?;
        rows.into_iter().map(Recorded::try_from).collect()
    }
}
