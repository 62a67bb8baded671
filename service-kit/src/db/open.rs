//! Opening: which database a URL names, and its connections.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::Connection;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::{Db, Writer};
use crate::private_file::{self, PrivateFileError};
use crate::schema::{Schema, migrator};

/// Enough for the readers of a small machine.
const SQLITE_READERS: u32 = 8;
/// PostgreSQL has 100 by default and MariaDB 151, which a few replicas must be able to share.
const SERVER_CONNECTIONS: u32 = 16;
/// How long a request may wait for a connection or for another writer; less than the time that a request may take.
const WAIT: Duration = Duration::from_secs(20);
/// A connection that was idle for longer is looked at before it is used. It is looked at after each use in any case, and a
/// look takes as long as a small statement.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// How long PostgreSQL may work on a statement, in milliseconds; without it a stuck one would hold its connection.
const STATEMENT_TIMEOUT: &str = "10000";
/// Makes MariaDB understand what the others do, refuse what it would cut or round, and see what others have committed;
/// with the same time for a statement. The mode replaces the server's: what it means must not depend on its configuration.
const MARIADB_SESSION: &str = "SET SESSION sql_mode = 'ANSI_QUOTES,ERROR_FOR_DIVISION_BY_ZERO,NO_BACKSLASH_ESCAPES,\
    NO_ENGINE_SUBSTITUTION,ONLY_FULL_GROUP_BY,PIPES_AS_CONCAT,SIMULTANEOUS_ASSIGNMENT,STRICT_ALL_TABLES', \
    max_statement_time = 10; \
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
/// Compares text byte by byte, with blanks at its end. MySQL does not have it.
const MARIADB_COLLATION: &str = "utf8mb4_nopad_bin";
/// `ER_UNKNOWN_COLLATION`
const UNKNOWN_COLLATION: u16 = 1273;

/// The database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL of a kind that the service takes. What was found is not repeated: it may hold a password.
    #[error("expected {0}")]
    Url(&'static str),
    /// A URL of PostgreSQL with a mistake in it.
    #[error("this is not a URL of PostgreSQL, postgres://USER@HOST/DATABASE")]
    PostgresUrl,
    /// A URL of MariaDB with a mistake in it.
    #[error("this is not a URL of MariaDB, mariadb://USER@HOST/DATABASE")]
    MariadbUrl,
    /// A server that speaks MariaDB's protocol and does not have what is needed of it.
    #[error("the server is not MariaDB; MySQL is not supported")]
    NotMariadb,
    /// The file cannot be used, or others can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It does not let us in, or is not there.
    #[error("cannot connect to the database")]
    Database(#[source] sqlx::Error),
    /// The schema is newer, or was changed by hand.
    #[error("the database's schema does not fit this version")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

pub(super) async fn open(url: &str, schema: &Schema) -> Result<Db, OpenError> {
    if let Some(location) = url.strip_prefix("sqlite:").filter(|location| !location.is_empty()) {
        return open_sqlite(location, schema).await;
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return open_postgres(url, schema).await;
    }
    if !schema.mariadb.is_empty() && (url.starts_with("mariadb:") || url.starts_with("mysql:")) {
        return open_mariadb(url, schema).await;
    }
    Err(OpenError::Url(schema.urls()))
}

async fn open_sqlite(location: &str, schema: &Schema) -> Result<Db, OpenError> {
    let options = SqliteConnectOptions::new().foreign_keys(true).busy_timeout(WAIT);
    if location == ":memory:" {
        // Every connection to :memory: is a database of its own.
        let only = sqlite_pool(options.in_memory(true), 1).await?;
        migrate_sqlite(&only, schema).await?;
        return Ok(Db::Sqlite { readers: only.clone(), writer: Writer::new(only) });
    }
    let path = Path::new(location);
    private_file::ensure(path)?;
    let options = options
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A used challenge must still be used after a power failure.
        .synchronous(SqliteSynchronous::Full);
    let writer = sqlite_pool(options.clone(), 1).await?;
    migrate_sqlite(&writer, schema).await?;
    let readers = sqlite_pool(options, SQLITE_READERS).await?;
    Ok(Db::Sqlite { readers, writer: Writer::new(writer) })
}

async fn sqlite_pool(options: SqliteConnectOptions, connections: u32) -> Result<SqlitePool, OpenError> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(WAIT)
        // Nobody hangs up.
        .test_before_acquire(false)
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

/// Whether the server is still there.
async fn is_usable(connection: &mut impl Connection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    if idle_for > TRUSTED_FOR {
        connection.ping().await?;
    }
    Ok(true)
}

async fn open_postgres(url: &str, schema: &Schema) -> Result<Db, OpenError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| OpenError::PostgresUrl)?
        .application_name(schema.application)
        .options([("statement_timeout", STATEMENT_TIMEOUT)]);
    let pool = PgPoolOptions::new()
        .max_connections(SERVER_CONNECTIONS)
        .acquire_timeout(WAIT)
        .test_before_acquire(false)
        .before_acquire(|connection, state| Box::pin(is_usable(connection, state.idle_for)))
        .connect_with(options)
        .await
        .map_err(OpenError::Database)?;
    migrator(schema.postgres).run(&pool).await.map_err(OpenError::Migration)?;
    Ok(Db::Postgres(pool))
}

async fn open_mariadb(url: &str, schema: &Schema) -> Result<Db, OpenError> {
    let options = MySqlConnectOptions::from_str(url).map_err(|_| OpenError::MariadbUrl)?;
    if options.get_database().is_none() {
        return Err(OpenError::MariadbUrl);
    }
    let options = options.charset("utf8mb4").collation(MARIADB_COLLATION);
    let pool = MySqlPoolOptions::new()
        .max_connections(SERVER_CONNECTIONS)
        .acquire_timeout(WAIT)
        .test_before_acquire(false)
        .before_acquire(|connection, state| Box::pin(is_usable(connection, state.idle_for)))
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::raw_sql(MARIADB_SESSION).execute(connection).await.map(drop) })
        })
        .connect_with(options)
        .await
        .map_err(|error| match error.as_database_error().and_then(|error| error.try_downcast_ref()) {
            Some(refused) if MySqlDatabaseError::number(refused) == UNKNOWN_COLLATION => {
                OpenError::NotMariadb
            }
            _ => OpenError::Database(error),
        })?;
    migrator(schema.mariadb).run(&pool).await.map_err(OpenError::Migration)?;
    Ok(Db::Mariadb(pool))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Step;

    const STEPS: &[Step] = &[Step { number: 1, name: "one", sql: "CREATE TABLE one (one BIGINT)" }];
    const SCHEMA: Schema = Schema { application: "test", sqlite: STEPS, postgres: STEPS, mariadb: &[] };

    #[tokio::test]
    async fn a_url_of_another_database_is_answered_with_those_that_are_taken() {
        for (mariadb, url, expected) in [
            (
                &[][..],
                "mariadb://a:secret@b/c",
                "expected sqlite:PATH, sqlite::memory: or postgres://USER@HOST/DATABASE",
            ),
            (
                &[],
                "mysql://a:secret@b/c",
                "expected sqlite:PATH, sqlite::memory: or postgres://USER@HOST/DATABASE",
            ),
            (
                STEPS,
                "oracle://a:secret@b/c",
                "expected sqlite:PATH, sqlite::memory:, postgres://USER@HOST/DATABASE or mariadb://USER@HOST/DATABASE",
            ),
            (STEPS, "mariadb://a:secret@[", "this is not a URL of MariaDB, mariadb://USER@HOST/DATABASE"),
            (STEPS, "mysql:", "this is not a URL of MariaDB, mariadb://USER@HOST/DATABASE"),
            (
                STEPS,
                "postgres://a:secret@[",
                "this is not a URL of PostgreSQL, postgres://USER@HOST/DATABASE",
            ),
        ] {
            let error = open(url, &Schema { mariadb, ..SCHEMA }).await.unwrap_err();
            assert_eq!(error.to_string(), expected, "{url}");
        }
    }
}
