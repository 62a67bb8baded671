//! What the service remembers, in SQLite, PostgreSQL or MariaDB. Several instances may share one database.
//!
//! Whoever can write into the database is not trusted by that: what tenants have registered is kept as authenticated
//! [`documents`], and every change of one in a chained journal, so that a row that was changed, exchanged, restored, removed
//! or added behind the service's back is not used, and [`fsck`] names it.

mod audit;
mod documents;
mod enrolments;
mod events;
pub mod fsck;
mod keys;
mod nonces;
mod schema;
mod states;
mod tag;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use service_kit::db::{Db, OpenError, is_contention, params};
use service_kit::environment::Environment;
use service_kit::problem::Problem;
use service_kit::vault::{Vault, VaultError};

pub use audit::{Entry, Mark};
pub use documents::{Change, Document, Kind, Registered, Revision};
pub use enrolments::Enrolment;
pub use events::{Direction, Numbered};
pub use keys::{KeyRing, Purpose};
pub(crate) use nonces::{authenticate_nonce, is_nonce};
use schema::SCHEMA;
pub use states::{State, Stored};

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The id or name is taken.
    #[error("there is already a {0} of this name")]
    Exists(&'static str),
    /// There are as many as there may be.
    #[error("this tenant has as many {0} as it may have: delete some")]
    Full(&'static str),
    /// Somebody else changed the same thing at the same time.
    #[error("{0} has been modified by another request, please retry")]
    Conflict(&'static str),
    /// A row was changed behind the service's back.
    #[error("{kind} {tenant}/{id}: {reason}; run gta-server fsck")]
    Tampered {
        /// What kind of row.
        kind: &'static str,
        /// Whose.
        tenant: String,
        /// Which.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The database failed.
    #[error("the database cannot be used")]
    Database(#[source] sqlx::Error),
    /// A key cannot be opened.
    #[error("a key cannot be sealed or opened")]
    Vault(#[from] VaultError),
    /// A key cannot be made or used.
    #[error("a key cannot be made or used")]
    Key,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_contention(&error) { Self::Conflict("what is stored") } else { Self::Database(error) }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Exists(_) => Self::new(StatusCode::CONFLICT, "exists", error.to_string()),
            StoreError::Full(_) => Self::new(StatusCode::CONFLICT, "quota_exceeded", error.to_string()),
            StoreError::Conflict(_) => Self::too_many("conflict", error.to_string()),
            StoreError::Tampered { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "integrity");
                Self::unavailable(
                    "integrity_violation",
                    "stored data was changed behind the service's back; the operator's log says which",
                )
            }
            StoreError::Database(_) | StoreError::Vault(_) | StoreError::Key => {
                tracing::error!(error = &error as &dyn std::error::Error, "store");
                Self::unavailable("store_unavailable", "the service's database cannot be used now")
            }
        }
    }
}

/// A handle on the database; clones share it.
#[derive(Clone)]
pub struct Store {
    db: Db,
    keys: Arc<KeyRing>,
    environment: Environment,
    changes: Arc<AtomicU64>,
}

impl Store {
    /// Opens `sqlite:PATH` (created with mode 0600 if absent), `postgres://USER@HOST/DATABASE` or
    /// `mariadb://USER@HOST/DATABASE`, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] names the file, or says what the server said; never the URL, which may hold a password.
    pub async fn open(url: &str, vault: Vault, environment: Environment) -> Result<Self, OpenError> {
        let db = Db::open(url, &SCHEMA).await?;
        let keys = Arc::new(KeyRing::new(db.clone(), vault, environment.clone()));
        Ok(Self { db, keys, environment, changes: Arc::default() })
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// How many changes were made through this handle and its clones.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.fetch_optional("SELECT 1 AS one", params![]).await?;
        Ok(())
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }

    fn now(&self) -> i64 {
        self.environment.clock.now()
    }
}
