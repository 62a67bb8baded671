//! What is MariaDB's own: placeholders, rows that are there already, and transactions that must be tried again.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use sqlx::mysql::{MySqlArguments, MySqlDatabaseError, MySqlExecutor, MySqlPool, MySqlRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, MySql};

use super::{Param, bind};

/// `ER_LOCK_WAIT_TIMEOUT`, `ER_LOCK_DEADLOCK` and `ER_CHECKREAD`: another transaction was in the way.
const CONTENTION: [u16; 3] = [1205, 1213, 1020];
/// Begins a transaction that only reads, in one statement: connections have another isolation level, and a snapshot needs
/// this one.
pub(super) const BEGIN_SNAPSHOT: &str = "BEGIN NOT ATOMIC \
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
    START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY; \
    END";
/// How often a statement that is a transaction of its own is run before its caller hears of another that is in its way.
const TRIES: u32 = 4;

/// A statement in MariaDB's dialect.
#[derive(Debug, PartialEq, Eq)]
struct Statement {
    sql: Arc<str>,
    /// For each `?` of the statement, which parameter it stands for, from 0.
    order: Vec<usize>,
    /// A row that is there already is no error, and is left as it is.
    or_nothing: bool,
}

impl Statement {
    /// The translation of a statement, which is made once.
    fn of(sql: &'static str) -> Arc<Self> {
        static KNOWN: LazyLock<RwLock<HashMap<&'static str, Arc<Statement>>>> =
            LazyLock::new(RwLock::default);
        if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(sql) {
            return Arc::clone(known);
        }
        let statement = Arc::new(Self::translate(sql));
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(sql, Arc::clone(&statement));
        statement
    }

    /// `$1` becomes `?`. `ON CONFLICT (...) DO NOTHING` at the end is left out: of what MariaDB has in its place, `INSERT
    /// IGNORE` hides other errors, and the rows that `ON DUPLICATE KEY UPDATE` gives do not tell old from new.
    fn translate(sql: &str) -> Self {
        let stem = sql.trim_end().strip_suffix("DO NOTHING");
        let stem = stem.and_then(|stem| Some(&stem[..stem.rfind("ON CONFLICT (")?]));
        let mut text = String::with_capacity(sql.len());
        let mut order = Vec::new();
        let mut quote = None;
        let mut rest = stem.unwrap_or(sql).trim_end();
        while let Some(next) = rest.chars().next() {
            rest = &rest[next.len_utf8()..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            match (next, quote) {
                // A quote that is doubled ends and begins one again.
                ('\'' | '"', None) => quote = Some(next),
                (_, Some(open)) if next == open => quote = None,
                ('$', None) if digits > 0 => {
                    let number = rest[..digits].parse().unwrap_or(usize::MAX);
                    order.push(number.wrapping_sub(1));
                    rest = &rest[digits..];
                    text.push('?');
                    continue;
                }
                _ => {}
            }
            text.push(next);
        }
        Self { sql: text.into(), order, or_nothing: stem.is_some() }
    }

    /// A number without a parameter leaves its `?` without a value, which the driver refuses.
    ///
    /// Each statement is prepared for one run: of some that run again with other parameters, MariaDB 10.11 gives too few
    /// rows, in another order, as what it concluded from the first parameters stays in the statement.
    fn bind<'q>(&self, params: &'q [Param<'q>]) -> Query<'q, MySql, MySqlArguments> {
        let params = self.order.iter().filter_map(|at| params.get(*at));
        bind(AssertSqlSafe(Arc::clone(&self.sql)), params).persistent(false)
    }
}

/// Runs a statement and says how many rows it changed, or would have if they had not been so already.
pub(super) async fn execute(
    executor: impl MySqlExecutor<'_>,
    sql: &'static str,
    params: &[Param<'_>],
) -> Result<u64, sqlx::Error> {
    let statement = Statement::of(sql);
    match statement.bind(params).execute(executor).await {
        Ok(done) => Ok(done.rows_affected()),
        // It undoes this statement, not the transaction around it.
        Err(sqlx::Error::Database(error)) if statement.or_nothing && error.is_unique_violation() => Ok(0),
        Err(error) => Err(error),
    }
}

/// The row of a statement that gives at most one.
pub(super) async fn fetch_optional(
    executor: impl MySqlExecutor<'_>,
    sql: &'static str,
    params: &[Param<'_>],
) -> Result<Option<MySqlRow>, sqlx::Error> {
    Statement::of(sql).bind(params).fetch_optional(executor).await
}

/// The rows of a statement.
pub(super) async fn fetch_all(
    executor: impl MySqlExecutor<'_>,
    sql: &'static str,
    params: &[Param<'_>],
) -> Result<Vec<MySqlRow>, sqlx::Error> {
    Statement::of(sql).bind(params).fetch_all(executor).await
}

/// As [`execute`], as a transaction of its own.
pub(super) async fn execute_alone(
    pool: &MySqlPool,
    sql: &'static str,
    params: &[Param<'_>],
) -> Result<u64, sqlx::Error> {
    let mut tries = Tries::default();
    loop {
        match execute(pool, sql, params).await {
            Err(error) if tries.again(&error) => {}
            result => return result,
        }
    }
}

/// The row that a statement changed and returns, which is a transaction of its own.
pub(super) async fn execute_returning(
    pool: &MySqlPool,
    sql: &'static str,
    params: &[Param<'_>],
) -> Result<Option<MySqlRow>, sqlx::Error> {
    let mut tries = Tries::default();
    loop {
        match fetch_optional(pool, sql, params).await {
            Err(error) if tries.again(&error) => {}
            result => return result,
        }
    }
}

/// How often something was tried.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    fn again(&mut self, error: &sqlx::Error) -> bool {
        self.0 += 1;
        self.0 < TRIES && is_contention(error)
    }
}

/// Whether a transaction was given up because of another.
pub(super) fn is_contention(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    error.is_some_and(|error| CONTENTION.contains(&error.number()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(sql: &str) -> (String, Vec<usize>, bool) {
        let Statement { sql, order, or_nothing } = Statement::translate(sql);
        (sql.to_string(), order, or_nothing)
    }

    #[test]
    fn parameters_are_given_in_the_order_in_which_they_are_named() {
        assert_eq!(
            translated("UPDATE t SET a = $2, b = $10 WHERE c = $1 AND ($2 = '' OR d < $3)"),
            (
                "UPDATE t SET a = ?, b = ? WHERE c = ? AND (? = '' OR d < ?)".to_owned(),
                vec![1, 9, 0, 1, 2],
                false
            )
        );
        assert_eq!(translated("SELECT 1"), ("SELECT 1".to_owned(), vec![], false));
    }

    #[test]
    fn what_is_quoted_is_left_alone() {
        for quoted in
            ["SELECT '$1'", "SELECT 'it''s $1'", "SELECT '\"$1'", "SELECT \"a$1\" FROM \"'$2\"", "$", "a$b"]
        {
            assert_eq!(translated(quoted), (quoted.to_owned(), vec![], false));
        }
        assert_eq!(
            translated("SELECT 'ü$1', $1, '''', \"$2\", $2"),
            ("SELECT 'ü$1', ?, '''', \"$2\", ?".to_owned(), vec![0, 1], false)
        );
    }

    #[test]
    fn rows_that_are_there_already_are_left_as_they_are() {
        assert_eq!(
            translated("INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a, b) DO NOTHING"),
            ("INSERT INTO t (a, b) VALUES (?, ?)".to_owned(), vec![0, 1], true)
        );
        // What has no counterpart is for the server to refuse.
        let update = "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2";
        assert_eq!(translated(update), (update.to_owned(), vec![], false));
    }

    #[test]
    fn numbers_beyond_the_parameters_find_none() {
        assert_eq!(translated("$0 $99999999999999999999999").1, vec![usize::MAX, usize::MAX - 1]);
    }
}
