//! What the service remembers, in SQLite or PostgreSQL. Several instances may share one database.
//!
//! [`Store`] reads, and does what requests of guests need in single statements. What operators change goes through a
//! [`Change`], which becomes durable together with its entry in the audit log or not at all.

pub mod anchors;
pub mod audit;
pub mod bundles;
pub mod challenges;
pub mod corim_signers;
pub mod platform_references;
pub mod policies;
pub mod references;
pub mod resource_policies;
pub mod resources;
mod schema;
pub mod sessions;
pub mod signing_keys;

use sha2::{Digest as _, Sha256};
use verifier::Provenance;

pub use service_kit::db::OpenError;
use service_kit::db::{self, Db, Row, Tx, params};

use self::audit::Entry;
use self::schema::SCHEMA;
use crate::problem::Problem;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name, or the pair of identifiers, is taken.
    #[error("{0}")]
    Exists(&'static str),
    /// Somebody else changed the same thing at the same time.
    #[error("{0} was changed by another request at the same time; look at it and try again")]
    Conflict(&'static str),
    /// The database failed.
    #[error("the database cannot be used")]
    Database(#[from] sqlx::Error),
    /// A stored row does not have the form that this version writes.
    #[error("the database holds a {0} that this version cannot read")]
    Corrupt(&'static str),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists(what) => Self::new(axum::http::StatusCode::CONFLICT, "exists", what),
            StoreError::Conflict(_) => {
                Self::new(axum::http::StatusCode::CONFLICT, "conflict", error.to_string())
            }
            StoreError::Database(_) | StoreError::Corrupt(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "store");
                Self::unavailable("store_unavailable", "the service's database cannot be used now")
            }
        }
    }
}

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

/// What an operator changes. Dropped without [`Change::commit`], nothing was changed.
pub struct Change {
    tx: Tx,
    /// What the audit log says of a resource: the digest of its sealed content. That of the secret itself would let
    /// whoever reads the log try out guesses.
    digest: Option<[u8; 32]>,
}

impl Store {
    /// Opens `sqlite:PATH` (created with mode 0600 if absent), `sqlite::memory:` or `postgres://USER@HOST/DATABASE`, and
    /// brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] names the file, or says what the server said; never the URL, which may hold a password.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Ok(Self { db: Db::open(url, &SCHEMA).await? })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.fetch_optional("SELECT 1", params![]).await?;
        Ok(())
    }

    /// Begins a change.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the database cannot be used.
    pub async fn change(&self) -> Result<Change, StoreError> {
        Ok(Change { tx: self.db.begin().await?, digest: None })
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

impl Change {
    /// Makes the change durable, with `entry` in the audit log.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used; then nothing was changed.
    pub async fn commit(mut self, entry: &Entry<'_>) -> Result<(), StoreError> {
        let entry = Entry { digest: entry.digest.or(self.digest), ..*entry };
        self.tx.execute(audit::INSERT, &entry.params()).await?;
        Ok(self.tx.commit().await?)
    }
}

/// Turns a violated uniqueness constraint into [`StoreError::Exists`].
fn or_exists(error: sqlx::Error, what: &'static str) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::Exists(what),
        _ => StoreError::Database(error),
    }
}

/// Turns a violated uniqueness constraint into [`StoreError::Conflict`].
fn or_conflict(error: sqlx::Error, what: &'static str) -> StoreError {
    match or_exists(error, what) {
        StoreError::Exists(what) => StoreError::Conflict(what),
        other => other,
    }
}

/// Where a registered value came from.
fn provenance(row: &Row) -> Result<Provenance, StoreError> {
    Ok(Provenance { source: row.get("source")?, added_at: row.get("added_at")? })
}

/// The database holds digests of session cookies, so that reading it gives nobody a session.
fn session_digest(session: &str) -> [u8; 32] {
    sha256(session.as_bytes())
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
