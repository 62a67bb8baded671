//! SQLite's one writer. It lets one in at a time and others try again and again; with one connection for all writers of this
//! process they queue instead. Statements that wait at the same moment are made durable together: a flush to disk takes as
//! long as a hundred of them.

use std::fmt;
use std::io;
use std::sync::Arc;

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Sqlite, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::{Param, bind};

/// Most statements in one transaction: readers of other processes wait for it.
const MAX_BATCH: usize = 256;

/// The writer; clones share its connection.
#[derive(Clone, Debug)]
pub struct Writer {
    pool: SqlitePool,
    queue: mpsc::Sender<Write>,
}

/// A statement that waits.
struct Write {
    sql: &'static str,
    params: Vec<Owned>,
    returning: bool,
    reply: oneshot::Sender<Result<Done, sqlx::Error>>,
}

enum Owned {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

enum Done {
    Changed(u64),
    Row(Option<SqliteRow>),
}

impl Writer {
    /// A writer with the one connection of `pool`.
    pub(super) fn new(pool: SqlitePool) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_BATCH);
        tokio::spawn(serve(pool.clone(), waiting));
        Self { pool, queue }
    }

    /// Runs a statement and says how many rows it changed.
    pub(super) async fn execute(&self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, sqlx::Error> {
        match self.run(sql, params, false).await? {
            Done::Changed(rows) => Ok(rows),
            Done::Row(_) => Err(sqlx::Error::WorkerCrashed),
        }
    }

    /// The row that a statement changed and returns, if any.
    pub(super) async fn execute_returning(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<SqliteRow>, sqlx::Error> {
        match self.run(sql, params, true).await? {
            Done::Row(row) => Ok(row),
            Done::Changed(_) => Err(sqlx::Error::WorkerCrashed),
        }
    }

    async fn run(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        returning: bool,
    ) -> Result<Done, sqlx::Error> {
        let (reply, done) = oneshot::channel();
        let params = params.iter().map(Owned::from).collect();
        let write = Write { sql, params, returning, reply };
        self.queue.send(write).await.map_err(|_| sqlx::Error::PoolClosed)?;
        done.await.map_err(|_| sqlx::Error::PoolClosed)?
    }

    /// Begins a change of several statements, for which all others wait.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        begin(&self.pool).await
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction that begins by reading could not become a writer while another process writes.
async fn begin(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    pool.begin_with("BEGIN IMMEDIATE").await
}

async fn serve(pool: SqlitePool, mut waiting: mpsc::Receiver<Write>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        // Who does not wait any more is not written for.
        batch.retain(|write| !write.reply.is_closed());
        if let Err(failed) = together(&pool, &mut batch).await {
            // Which of them it was is not known: each on its own.
            tracing::debug!(error = &failed as &dyn std::error::Error, "statements are run one by one");
            for write in batch.drain(..).filter(|write| !write.reply.is_closed()) {
                alone(&pool, write).await;
            }
        }
    }
}

/// Runs all in one transaction and answers them, which empties the batch.
///
/// # Errors
/// What went wrong with a statement; then nothing was changed, and all are still there.
async fn together(pool: &SqlitePool, batch: &mut Vec<Write>) -> Result<(), sqlx::Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut tx = match begin(pool).await {
        Ok(tx) => tx,
        Err(error) => {
            // Tried one by one, each would wait as long as all have waited now.
            let error = Arc::new(error);
            batch.drain(..).for_each(|write| drop(write.reply.send(Err(not_committed(&error)))));
            return Ok(());
        }
    };
    let mut results = Vec::with_capacity(batch.len());
    for write in batch.iter() {
        match run(&mut tx, write).await {
            // A constraint undoes its statement and no other (SQLite's default, ABORT).
            Err(error) if !is_constraint(&error) => return Err(error),
            result => results.push(result),
        }
    }
    let outcome = tx.commit().await.map_err(Arc::new);
    for (write, result) in batch.drain(..).zip(results) {
        let result = match &outcome {
            Ok(()) => result,
            Err(error) => Err(not_committed(error)),
        };
        // Who has left does not want to know.
        drop(write.reply.send(result));
    }
    Ok(())
}

async fn alone(pool: &SqlitePool, write: Write) {
    let result = async {
        let mut tx = begin(pool).await?;
        let done = run(&mut tx, &write).await?;
        tx.commit().await?;
        Ok(done)
    };
    let result = result.await;
    drop(write.reply.send(result));
}

async fn run(tx: &mut Transaction<'static, Sqlite>, write: &Write) -> Result<Done, sqlx::Error> {
    let params: Vec<Param<'_>> = write.params.iter().map(Param::from).collect();
    let query = bind(write.sql, &params);
    if write.returning {
        return query.fetch_optional(&mut **tx).await.map(Done::Row);
    }
    Ok(Done::Changed(query.execute(&mut **tx).await?.rows_affected()))
}

/// `SQLITE_CONSTRAINT`, the low byte of all its kinds.
const CONSTRAINT: u32 = 19;

fn is_constraint(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == CONSTRAINT)
}

fn not_committed(error: &Arc<sqlx::Error>) -> sqlx::Error {
    sqlx::Error::Io(io::Error::other(NotCommitted(Arc::clone(error))))
}

/// The transaction of a whole batch has failed.
#[derive(Debug)]
struct NotCommitted(Arc<sqlx::Error>);

impl fmt::Display for NotCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the statements could not be committed")
    }
}

impl std::error::Error for NotCommitted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

impl From<&Param<'_>> for Owned {
    fn from(param: &Param<'_>) -> Self {
        match *param {
            Param::Int(value) => Self::Int(value),
            Param::Text(value) => Self::Text(value.map(str::to_owned)),
            Param::Bytes(value) => Self::Bytes(value.map(<[u8]>::to_vec)),
        }
    }
}

impl<'a> From<&'a Owned> for Param<'a> {
    fn from(owned: &'a Owned) -> Self {
        match owned {
            Owned::Int(value) => Self::Int(*value),
            Owned::Text(value) => Self::Text(value.as_deref()),
            Owned::Bytes(value) => Self::Bytes(value.as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use sqlx::Row as _;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use super::*;
    use crate::db::params;

    async fn writer() -> (Writer, SqlitePool) {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(SqliteConnectOptions::new().in_memory(true))
            .await
            .unwrap();
        sqlx::query("CREATE TABLE numbers (number INTEGER PRIMARY KEY) STRICT").execute(&pool).await.unwrap();
        (Writer::new(pool.clone()), pool)
    }

    const INSERT: &str = "INSERT INTO numbers VALUES ($1)";

    /// Lets the tasks of this thread run until they wait for the connection.
    async fn others_run() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn statements_of_many_are_all_run_and_each_has_its_own_result() {
        let (writer, pool) = writer().await;
        let tasks: Vec<_> = (0..1000_i64)
            .map(|number| {
                let writer = writer.clone();
                // Every number twice, one text that is no number.
                tokio::spawn(async move {
                    if number == 500 {
                        return writer.execute(INSERT, params!["many"]).await;
                    }
                    writer.execute(INSERT, params![number / 2]).await
                })
            })
            .collect();
        let (mut inserted, mut refused) = (0, 0);
        for task in tasks {
            match task.await.unwrap() {
                Ok(rows) => inserted += rows,
                Err(error) => {
                    assert!(error.as_database_error().is_some(), "{error:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!((inserted, refused), (500, 500));
        let row = sqlx::query("SELECT COUNT(*) AS present FROM numbers").fetch_one(&pool).await.unwrap();
        assert_eq!(row.get::<i64, _>("present"), 500);
    }

    #[tokio::test]
    async fn what_waits_together_is_one_transaction() {
        let (writer, pool) = writer().await;
        // While the connection is held, statements pile up.
        let mut held = writer.begin().await.unwrap();
        let commits = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&commits);
        held.lock_handle().await.unwrap().set_commit_hook(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            true
        });
        let tasks: Vec<_> = (0..100_i64)
            .map(|number| {
                let writer = writer.clone();
                tokio::spawn(async move { writer.execute(INSERT, params![number]).await })
            })
            .collect();
        others_run().await;
        held.rollback().await.unwrap();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), 1);
        }
        // The first was taken before the others came.
        assert!((1..=2).contains(&commits.load(Ordering::SeqCst)), "{commits:?}");
        pool.close().await;
        assert!(writer.execute(INSERT, params![1000_i64]).await.is_err());
    }

    /// Another process that writes for too long costs all of a batch one time of waiting, not each of them.
    #[tokio::test]
    async fn a_database_that_is_busy_is_waited_for_once() {
        let directory = tempfile::tempdir().unwrap();
        let options =
            SqliteConnectOptions::new().filename(directory.path().join("db")).create_if_missing(true);
        let busy = Duration::from_millis(200);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone().busy_timeout(busy))
            .await
            .unwrap();
        sqlx::query("CREATE TABLE numbers (number INTEGER PRIMARY KEY) STRICT").execute(&pool).await.unwrap();
        let other = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let lock = begin(&other).await.unwrap();
        let writer = Writer::new(pool);
        // What waits behind the first is one batch.
        let tasks: Vec<_> = (0..50_i64)
            .map(|number| {
                let writer = writer.clone();
                tokio::spawn(async move { writer.execute(INSERT, params![number]).await })
            })
            .collect();
        let all = async {
            for task in tasks {
                assert!(matches!(task.await.unwrap(), Err(sqlx::Error::Io(_))));
            }
        };
        tokio::time::timeout(busy * 20, all).await.unwrap();
        lock.rollback().await.unwrap();
        assert_eq!(writer.execute(INSERT, params![1_i64]).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn whoever_has_left_is_not_written_for() {
        let (writer, pool) = writer().await;
        let held = writer.begin().await.unwrap();
        // The first is being run already; it waits for the connection.
        let first = tokio::spawn({
            let writer = writer.clone();
            async move { writer.execute(INSERT, params![1_i64]).await }
        });
        others_run().await;
        let second = tokio::spawn({
            let writer = writer.clone();
            async move { writer.execute(INSERT, params![2_i64]).await }
        });
        others_run().await;
        second.abort();
        drop(second.await);
        held.rollback().await.unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(writer.execute(INSERT, params![3_i64]).await.unwrap(), 1);
        let rows = sqlx::query("SELECT number FROM numbers ORDER BY number").fetch_all(&pool).await.unwrap();
        let numbers: Vec<i64> = rows.iter().map(|row| row.get("number")).collect();
        assert_eq!(numbers, [1, 3]);
    }
}
