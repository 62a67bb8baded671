//! One way to talk to SQLite and to PostgreSQL. What differs between them is in this file and in their migrations;
//! statements are written once, with parameters $1, $2, ..., in the dialect that both understand.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Database, Decode, Encode, Postgres, Row as _, Sqlite, Transaction, Type};

use crate::schema::{Schema, migrator};

/// Enough for the readers of a small machine.
const SQLITE_READERS: u32 = 8;
/// PostgreSQL has 100 by default, which a few replicas must be able to share.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a request may wait for a connection or for another writer; less than the time that a request may take.
const WAIT: Duration = Duration::from_secs(20);
/// How long PostgreSQL may work on a statement, in milliseconds; without it a stuck one would hold its connection.
const STATEMENT_TIMEOUT: &str = "10000";

/// The database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL of either kind. What was found is not repeated: it may hold a password.
    #[error("expected sqlite:PATH, sqlite::memory: or postgres://USER@HOST/DATABASE")]
    Url,
    /// A URL of PostgreSQL with a mistake in it.
    #[error("this is not a URL of PostgreSQL, postgres://USER@HOST/DATABASE")]
    PostgresUrl,
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
    /// It does not let us in, or is not there.
    #[error("cannot connect to the database")]
    Database(#[source] sqlx::Error),
    /// The schema is newer, or was changed by hand.
    #[error("the database's schema does not fit this version")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Param<'a> {
    /// A number, a time or a flag.
    Int(Option<i64>),
    /// Text.
    Text(Option<&'a str>),
    /// Bytes.
    Bytes(Option<&'a [u8]>),
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Param<'_> {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<bool> for Param<'_> {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<Option<i64>> for Param<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<Option<&'a str>> for Param<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Some(value))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Param<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Bytes(Some(value))
    }
}

impl<'a> From<&'a Vec<u8>> for Param<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl<'a> From<Option<&'a [u8]>> for Param<'a> {
    fn from(value: Option<&'a [u8]>) -> Self {
        Self::Bytes(value)
    }
}

/// The parameters of a statement, in the order of their numbers.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::db::Param::from($value)),*] };
}
pub use crate::params;

/// A row of a result.
pub enum Row {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, `i64`, `String`, `Vec<u8>` or an option of these.
    pub fn get<T>(&self, column: &str) -> Result<T, sqlx::Error>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// A column that holds 0 or 1.
    pub fn flag(&self, column: &str) -> Result<bool, sqlx::Error> {
        Ok(self.get::<i64>(column)? != 0)
    }
}

fn bind<'q, DB: Database>(
    sql: &'static str,
    params: &'q [Param<'q>],
) -> Query<'q, DB, <DB as Database>::Arguments>
where
    Option<i64>: Encode<'q, DB> + Type<DB>,
    Option<&'q str>: Encode<'q, DB> + Type<DB>,
    Option<&'q [u8]>: Encode<'q, DB> + Type<DB>,
{
    params.iter().fold(sqlx::query(sql), |query, param| match *param {
        Param::Int(value) => query.bind(value),
        Param::Text(value) => query.bind(value),
        Param::Bytes(value) => query.bind(value),
    })
}

/// The database; clones share its connections.
#[derive(Clone, Debug)]
pub enum Db {
    /// An embedded file, or memory. SQLite lets one writer in at a time and others try again and again; with one
    /// connection for all writers of this process they queue instead.
    Sqlite {
        /// For statements that only read.
        readers: SqlitePool,
        /// For everything else.
        writer: SqlitePool,
    },
    /// A server.
    Postgres(PgPool),
}

impl Db {
    /// Opens the database that `url` names and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] names the file, or says what the server said; never the URL, which may hold a password.
    pub async fn open(url: &str, schema: &Schema) -> Result<Self, OpenError> {
        if let Some(location) = url.strip_prefix("sqlite:").filter(|location| !location.is_empty()) {
            return open_sqlite(location, schema).await;
        }
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return open_postgres(url, schema).await;
        }
        Err(OpenError::Url)
    }

    /// Runs a statement and says how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { writer, .. } => bind(sql, params).execute(writer).await?.rows_affected(),
            Self::Postgres(pool) => bind(sql, params).execute(pool).await?.rows_affected(),
        })
    }

    /// The row that a statement changed and returns, if any.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute_returning(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { writer, .. } => bind(sql, params).fetch_optional(writer).await?.map(Row::Sqlite),
            Self::Postgres(pool) => bind(sql, params).fetch_optional(pool).await?.map(Row::Postgres),
        })
    }

    /// The row of a query that gives at most one.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_optional(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { readers, .. } => bind(sql, params).fetch_optional(readers).await?.map(Row::Sqlite),
            Self::Postgres(pool) => bind(sql, params).fetch_optional(pool).await?.map(Row::Postgres),
        })
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_all(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                bind(sql, params).fetch_all(readers).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(pool) => {
                bind(sql, params).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Begins a change of several statements.
    ///
    /// # Errors
    /// What the database says.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Ok(match self {
            // A transaction that begins by reading could not become a writer while another process writes.
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Closes the connections, writing what is pending.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// What was changed and is not yet durable; dropped, it never happened.
pub enum Tx {
    /// In SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// In PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    /// Runs a statement and says how many rows it changed.
    pub async fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(tx) => bind(sql, params).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => bind(sql, params).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// The row of a statement that gives at most one.
    pub async fn fetch_optional(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(tx) => bind(sql, params).fetch_optional(&mut **tx).await?.map(Row::Sqlite),
            Self::Postgres(tx) => bind(sql, params).fetch_optional(&mut **tx).await?.map(Row::Postgres),
        })
    }

    /// Makes the change durable.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}

async fn open_sqlite(location: &str, schema: &Schema) -> Result<Db, OpenError> {
    let options = SqliteConnectOptions::new().foreign_keys(true).busy_timeout(WAIT);
    if location == ":memory:" {
        // Every connection to :memory: is a database of its own.
        let only = sqlite_pool(options.in_memory(true), 1).await?;
        migrate_sqlite(&only, schema).await?;
        return Ok(Db::Sqlite { readers: only.clone(), writer: only });
    }
    let path = Path::new(location);
    create_private(path)?;
    let options = options
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A used challenge must still be used after a power failure.
        .synchronous(SqliteSynchronous::Full);
    let writer = sqlite_pool(options.clone(), 1).await?;
    migrate_sqlite(&writer, schema).await?;
    let readers = sqlite_pool(options, SQLITE_READERS).await?;
    Ok(Db::Sqlite { readers, writer })
}

async fn sqlite_pool(options: SqliteConnectOptions, connections: u32) -> Result<SqlitePool, OpenError> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(WAIT)
        .connect_with(options)
        .await
        .map_err(OpenError::Database)
}

/// PostgreSQL's migrations exclude each other; here another instance may be making the same schema at this moment, and
/// then it is there at the next look.
async fn migrate_sqlite(writer: &SqlitePool, schema: &Schema) -> Result<(), OpenError> {
    let mut looks = 0;
    loop {
        match migrator(schema.sqlite).run(writer).await {
            Ok(()) => return Ok(()),
            Err(error) if looks == 5 => return Err(OpenError::Migration(error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        looks += 1;
    }
}

async fn open_postgres(url: &str, schema: &Schema) -> Result<Db, OpenError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| OpenError::PostgresUrl)?
        .application_name(schema.application)
        .options([("statement_timeout", STATEMENT_TIMEOUT)]);
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(WAIT)
        .connect_with(options)
        .await
        .map_err(OpenError::Database)?;
    migrator(schema.postgres).run(&pool).await.map_err(OpenError::Migration)?;
    Ok(Db::Postgres(pool))
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
