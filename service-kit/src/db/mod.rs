//! One way to talk to SQLite, PostgreSQL and MariaDB. What differs between them is in this folder and in their migrations;
//! statements are written once, with parameters $1, $2, ..., in the dialect that all understand. `ON CONFLICT (...) DO
//! NOTHING` may end one that inserts into a table with no other unique key.

mod mariadb;
mod open;
mod writer;

use sqlx::mysql::{MySqlPool, MySqlRow};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Database, Decode, Encode, MySql, Postgres, Row as _, SqlSafeStr, Sqlite, Transaction, Type};

use crate::schema::Schema;

pub use open::OpenError;
use writer::Writer;

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

/// A count or a bound; one that is larger than any table means all.
impl From<usize> for Param<'_> {
    fn from(value: usize) -> Self {
        Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
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
    /// From MariaDB.
    Mariadb(MySqlRow),
}

impl Row {
    /// The value of a column, `i64`, `String`, `Vec<u8>` or an option of these.
    pub fn get<T>(&self, column: &str) -> Result<T, sqlx::Error>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
        T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
        T: for<'r> Decode<'r, MySql> + Type<MySql>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
            Self::Mariadb(row) => row.try_get(column),
        }
    }

    /// A column that holds 0 or 1.
    pub fn flag(&self, column: &str) -> Result<bool, sqlx::Error> {
        Ok(self.get::<i64>(column)? != 0)
    }
}

fn bind<'q, DB: Database>(
    sql: impl SqlSafeStr,
    params: impl IntoIterator<Item = &'q Param<'q>>,
) -> Query<'q, DB, <DB as Database>::Arguments>
where
    Option<i64>: Encode<'q, DB> + Type<DB>,
    Option<&'q str>: Encode<'q, DB> + Type<DB>,
    Option<&'q [u8]>: Encode<'q, DB> + Type<DB>,
{
    params.into_iter().fold(sqlx::query(sql), |query, param| match *param {
        Param::Int(value) => query.bind(value),
        Param::Text(value) => query.bind(value),
        Param::Bytes(value) => query.bind(value),
    })
}

/// What the log of the level trace has of each statement: its text and never its parameters.
fn trace(sql: &str) {
    tracing::trace!(sql);
}

/// The database; clones share its connections.
#[derive(Clone, Debug)]
pub enum Db {
    /// An embedded file, or memory.
    Sqlite {
        /// For statements that only read.
        readers: SqlitePool,
        /// For everything else.
        writer: Writer,
    },
    /// A server of PostgreSQL.
    Postgres(PgPool),
    /// A server of MariaDB.
    Mariadb(MySqlPool),
}

impl Db {
    /// Opens the database that `url` names and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] names the file, or says what the server said; never the URL, which may hold a password.
    pub async fn open(url: &str, schema: &Schema) -> Result<Self, OpenError> {
        open::open(url, schema).await
    }

    /// Runs a statement and says how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, sqlx::Error> {
        trace(sql);
        Ok(match self {
            Self::Sqlite { writer, .. } => writer.execute(sql, params).await?,
            Self::Postgres(pool) => bind(sql, params).execute(pool).await?.rows_affected(),
            Self::Mariadb(pool) => mariadb::execute_alone(pool, sql, params).await?,
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
        trace(sql);
        Ok(match self {
            Self::Sqlite { writer, .. } => writer.execute_returning(sql, params).await?.map(Row::Sqlite),
            Self::Postgres(pool) => bind(sql, params).fetch_optional(pool).await?.map(Row::Postgres),
            Self::Mariadb(pool) => mariadb::execute_returning(pool, sql, params).await?.map(Row::Mariadb),
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
        trace(sql);
        Ok(match self {
            Self::Sqlite { readers, .. } => bind(sql, params).fetch_optional(readers).await?.map(Row::Sqlite),
            Self::Postgres(pool) => bind(sql, params).fetch_optional(pool).await?.map(Row::Postgres),
            Self::Mariadb(pool) => mariadb::fetch_optional(pool, sql, params).await?.map(Row::Mariadb),
        })
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_all(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        trace(sql);
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                bind(sql, params).fetch_all(readers).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(pool) => {
                bind(sql, params).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect()
            }
            Self::Mariadb(pool) => {
                mariadb::fetch_all(pool, sql, params).await?.into_iter().map(Row::Mariadb).collect()
            }
        })
    }

    /// Begins a change of several statements.
    ///
    /// # Errors
    /// What the database says.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        trace("BEGIN");
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin().await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
            Self::Mariadb(pool) => Tx::Mariadb(pool.begin().await?),
        })
    }

    /// Begins to read: what others commit meanwhile is not seen.
    ///
    /// # Errors
    /// What the database says.
    pub async fn snapshot(&self) -> Result<Snapshot, sqlx::Error> {
        trace("BEGIN");
        Ok(Snapshot(match self {
            Self::Sqlite { readers, .. } => Tx::Sqlite(readers.begin().await?),
            Self::Postgres(pool) => {
                Tx::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
            Self::Mariadb(pool) => Tx::Mariadb(pool.begin_with(mariadb::BEGIN_SNAPSHOT).await?),
        }))
    }

    /// Closes the connections. Who still waits for a statement to be run is told that it was not.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
            Self::Mariadb(pool) => pool.close().await,
        }
    }
}

/// What was changed and is not yet durable; dropped, it never happened.
pub enum Tx {
    /// In SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// In PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
    /// In MariaDB.
    Mariadb(Transaction<'static, MySql>),
}

impl Tx {
    /// Runs a statement and says how many rows it changed.
    pub async fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, sqlx::Error> {
        trace(sql);
        Ok(match self {
            Self::Sqlite(tx) => bind(sql, params).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => bind(sql, params).execute(&mut **tx).await?.rows_affected(),
            Self::Mariadb(tx) => mariadb::execute(&mut **tx, sql, params).await?,
        })
    }

    /// The row of a statement that gives at most one.
    pub async fn fetch_optional(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        trace(sql);
        Ok(match self {
            Self::Sqlite(tx) => bind(sql, params).fetch_optional(&mut **tx).await?.map(Row::Sqlite),
            Self::Postgres(tx) => bind(sql, params).fetch_optional(&mut **tx).await?.map(Row::Postgres),
            Self::Mariadb(tx) => mariadb::fetch_optional(&mut **tx, sql, params).await?.map(Row::Mariadb),
        })
    }

    /// The rows of a query.
    async fn fetch_all(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        trace(sql);
        Ok(match self {
            Self::Sqlite(tx) => {
                bind(sql, params).fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                bind(sql, params).fetch_all(&mut **tx).await?.into_iter().map(Row::Postgres).collect()
            }
            Self::Mariadb(tx) => {
                mariadb::fetch_all(&mut **tx, sql, params).await?.into_iter().map(Row::Mariadb).collect()
            }
        })
    }

    /// Makes the change durable.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        trace("COMMIT");
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
            Self::Mariadb(transaction) => transaction.commit().await,
        }
    }
}

/// The database as it was at the first query; it ends when it is dropped.
pub struct Snapshot(Tx);

impl Snapshot {
    /// The rows of a query.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_all(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        self.0.fetch_all(sql, params).await
    }
}

/// Whether a change was given up because of another at the same time, so that it may be tried again: PostgreSQL's
/// `serialization_failure` and `deadlock_detected`, and what they are in MariaDB.
#[must_use]
pub fn is_contention(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    mariadb::is_contention(error) || matches!(code.as_deref(), Some("40001" | "40P01"))
}
