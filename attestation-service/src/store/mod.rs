//! What the service remembers, in SQLite. Several instances may share one database file.

pub mod anchors;
pub mod challenges;
pub mod policies;
pub mod references;
pub mod resources;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::problem::Problem;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Enough for the readers of a small machine; SQLite has one writer at a time whatever this says.
const CONNECTIONS: u32 = 8;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name, or the pair of identifiers, is taken.
    #[error("{0}")]
    Exists(&'static str),
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
            StoreError::Database(_) | StoreError::Corrupt(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "store");
                Self::unavailable("store_unavailable", "the service's database cannot be used now")
            }
        }
    }
}

/// The database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a sqlite URL.
    #[error("expected sqlite:PATH or sqlite::memory:, found {0}")]
    Url(String),
    /// The file cannot be created or looked at.
    #[error("cannot create or read {path}")]
    File {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the file, which holds secrets.
    #[error("{path} has mode {mode:04o}, so other users can reach the secrets in it; run chmod 600 on it")]
    Mode {
        /// The database file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// SQLite refuses the file.
    #[error("SQLite cannot open the database")]
    Database(#[source] sqlx::Error),
    /// The schema is newer, or was changed by hand.
    #[error("the database's schema does not fit this version")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens `sqlite:PATH` (created with mode 0600 if absent) or `sqlite::memory:`, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] names the file and the reason.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let location = url.strip_prefix("sqlite:").filter(|location| !location.is_empty());
        let location = location.ok_or_else(|| OpenError::Url(url.to_owned()))?;
        let options = SqliteConnectOptions::new().foreign_keys(true).busy_timeout(Duration::from_secs(5));
        let (options, connections) = if location == ":memory:" {
            // Every connection to :memory: is a database of its own.
            (options.in_memory(true), 1)
        } else {
            let path = Path::new(location);
            create_private(path)?;
            let options = options
                .filename(path)
                .journal_mode(SqliteJournalMode::Wal)
                // A used challenge must still be used after a power failure.
                .synchronous(SqliteSynchronous::Full);
            (options, CONNECTIONS)
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await
            .map_err(OpenError::Database)?;
        MIGRATIONS.run(&pool).await.map_err(OpenError::Migration)?;
        Ok(Self { pool })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes the database, writing what is pending.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn create_private(path: &Path) -> Result<(), OpenError> {
    let error = |source| OpenError::File { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(error(source)),
    }
    let mode = fs::metadata(path).map_err(error)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Turns a violated uniqueness constraint into [`StoreError::Exists`].
fn or_exists(error: sqlx::Error, what: &'static str) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::Exists(what),
        _ => StoreError::Database(error),
    }
}
