//! What statements mean is the same in every database.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::path::Path;
use std::time::Duration;

use service_kit::db::{Db, is_contention, params};
use service_kit::schema::{Schema, Step};
use tempfile::TempDir;

macro_rules! steps {
    ($body:literal, $table:literal) => {
        &[Step {
            number: 1,
            name: "things",
            sql: concat!(
                "CREATE TABLE things (id VARCHAR(16) NOT NULL PRIMARY KEY, number BIGINT NOT NULL, body ",
                $body,
                ")",
                $table
            ),
        }]
    };
}

const SCHEMA: Schema = Schema {
    application: "test",
    sqlite: steps!("TEXT", ""),
    postgres: steps!("TEXT", ""),
    mariadb: steps!("LONGTEXT", " CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin"),
};

const ADD: &str = "INSERT INTO things (id, number) VALUES ($1, $2)";
const ADD_NEW: &str = "INSERT INTO things (id, number) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
const SET: &str = "UPDATE things SET number = $2 WHERE id = $1";
const NUMBER: &str = "SELECT number FROM things WHERE id = $1";

async fn servers() -> [Db; 2] {
    let state = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let urls = [test_databases::postgres(state).unwrap(), test_databases::mariadb(state).unwrap()];
    [Db::open(&urls[0], &SCHEMA).await.unwrap(), Db::open(&urls[1], &SCHEMA).await.unwrap()]
}

/// With the directory of the one that is a file.
async fn all() -> (TempDir, [Db; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("db").display());
    let [postgres, mariadb] = servers().await;
    (directory, [Db::open(&url, &SCHEMA).await.unwrap(), postgres, mariadb])
}

async fn number(db: &Db, id: &str) -> Option<i64> {
    db.fetch_optional(NUMBER, params![id]).await.unwrap().map(|row| row.get("number").unwrap())
}

#[tokio::test]
async fn a_row_that_is_there_is_left_and_what_else_is_wrong_is_said() {
    let (_directory, all) = all().await;
    for db in all {
        assert_eq!(db.execute(ADD_NEW, params!["a", 1_i64]).await.unwrap(), 1, "{db:?}");
        assert_eq!(db.execute(ADD_NEW, params!["a", 2_i64]).await.unwrap(), 0, "{db:?}");
        db.execute(ADD_NEW, params!["b", None::<i64>]).await.unwrap_err();
        let taken = db.execute(ADD, params!["a", 2_i64]).await.unwrap_err();
        assert!(taken.as_database_error().unwrap().is_unique_violation(), "{db:?}: {taken:?}");
        // A change goes on after it.
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.execute(ADD_NEW, params!["c", 3_i64]).await.unwrap(), 1, "{db:?}");
        assert_eq!(tx.execute(ADD_NEW, params!["a", 3_i64]).await.unwrap(), 0, "{db:?}");
        assert_eq!(tx.execute(ADD_NEW, params!["d", 4_i64]).await.unwrap(), 1, "{db:?}");
        tx.commit().await.unwrap();
        let mut found = Vec::new();
        for id in ["a", "b", "c", "d"] {
            found.push(number(&db, id).await);
        }
        assert_eq!(found, [Some(1), None, Some(3), Some(4)], "{db:?}");
    }
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_is_committed_later() {
    const ALL: &str = "SELECT id, number FROM things ORDER BY id";
    let (_directory, all) = all().await;
    for db in all {
        for id in ["a", "b"] {
            db.execute(ADD, params![id, 1_i64]).await.unwrap();
        }
        let mut snapshot = db.snapshot().await.unwrap();
        let seen = snapshot.fetch_all(NUMBER, params!["a"]).await.unwrap();
        assert_eq!(seen[0].get::<i64>("number").unwrap(), 1, "{db:?}");
        db.execute(SET, params!["b", 2_i64]).await.unwrap();
        db.execute(ADD, params!["c", 3_i64]).await.unwrap();
        let seen = snapshot.fetch_all(ALL, params![]).await.unwrap();
        let seen: Vec<(String, i64)> =
            seen.iter().map(|row| (row.get("id").unwrap(), row.get("number").unwrap())).collect();
        assert_eq!(seen, [("a".to_owned(), 1), ("b".to_owned(), 1)], "{db:?}");
        let later = snapshot.fetch_all(NUMBER, params!["c"]).await.unwrap();
        assert!(later.is_empty(), "{db:?}");
        drop(snapshot);
        assert_eq!((number(&db, "b").await, number(&db, "c").await), (Some(2), Some(3)), "{db:?}");
        // Its connection goes on as the others do.
        let mut tx = db.begin().await.unwrap();
        tx.execute(SET, params!["a", 4_i64]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(number(&db, "a").await, Some(4), "{db:?}");
    }
}

#[tokio::test]
async fn a_connection_that_the_server_has_ended_is_replaced() {
    const END_OTHERS: &str = "SELECT COUNT(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let state = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let url = test_databases::postgres(state).unwrap();
    let db = Db::open(&url, &SCHEMA).await.unwrap();
    db.execute(ADD, params!["a", 1_i64]).await.unwrap();
    let other = Db::open(&url, &SCHEMA).await.unwrap();
    let row = other.fetch_optional(END_OTHERS, params![]).await.unwrap().unwrap();
    assert!(row.get::<i64>("ended").unwrap() > 0);
    // A connection that was used a moment ago is not looked at.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(number(&db, "a").await, Some(1));
}

#[tokio::test]
async fn rows_count_as_changed_if_they_were_so_already() {
    let (_directory, all) = all().await;
    for db in all {
        db.execute(ADD, params!["a", 1_i64]).await.unwrap();
        assert_eq!(db.execute(SET, params!["a", 1_i64]).await.unwrap(), 1, "{db:?}");
        assert_eq!(db.execute(SET, params!["b", 1_i64]).await.unwrap(), 0, "{db:?}");
    }
}

#[tokio::test]
async fn texts_are_the_same_if_their_bytes_are() {
    let (_directory, all) = all().await;
    for db in all {
        let ids = ["a", "A", "a ", "ä", "a\u{308}", "\\", "\u{1f980}", "$1", "?"];
        for (number, id) in (0_i64..).zip(ids) {
            assert_eq!(db.execute(ADD_NEW, params![id, number]).await.unwrap(), 1, "{db:?}: {id:?}");
        }
        for (expected, id) in (0..).zip(ids) {
            assert_eq!(number(&db, id).await, Some(expected), "{db:?}: {id:?}");
        }
    }
}

#[tokio::test]
async fn parameters_may_be_named_twice_and_in_any_order() {
    const TWICE: &str = "INSERT INTO things (number, id, body) SELECT $2, $1, '$3' WHERE $1 <> '' AND $2 > 0";
    let (_directory, all) = all().await;
    for db in all {
        assert_eq!(db.execute(TWICE, params!["a", 1_i64]).await.unwrap(), 1, "{db:?}");
        assert_eq!(db.execute(TWICE, params!["", 1_i64]).await.unwrap(), 0, "{db:?}");
        let row = db.fetch_optional("SELECT body FROM things WHERE id = $1", params!["a"]).await.unwrap();
        assert_eq!(row.unwrap().get::<String>("body").unwrap(), "$3", "{db:?}");
    }
}

#[tokio::test]
async fn what_is_taken_away_is_returned_once() {
    const TAKE: &str = "DELETE FROM things WHERE id = $1 RETURNING number";
    let (_directory, all) = all().await;
    for db in all {
        db.execute(ADD, params!["a", 7_i64]).await.unwrap();
        let taken = db.execute_returning(TAKE, params!["a"]).await.unwrap();
        assert_eq!(taken.unwrap().get::<i64>("number").unwrap(), 7, "{db:?}");
        assert!(db.execute_returning(TAKE, params!["a"]).await.unwrap().is_none(), "{db:?}");
    }
}

/// As large as what is made of the largest request.
#[tokio::test]
async fn large_texts_come_back_as_they_were() {
    let (_directory, all) = all().await;
    let body = "0123456789abcde\n".repeat(15 << 16);
    for db in all {
        db.execute(ADD, params!["a", 1_i64]).await.unwrap();
        db.execute("UPDATE things SET body = $1 WHERE id = $2", params![&body, "a"]).await.unwrap();
        let row = db.fetch_optional("SELECT body FROM things WHERE id = $1", params!["a"]).await.unwrap();
        assert!(row.unwrap().get::<String>("body").unwrap() == body, "{db:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_cut() {
    for db in servers().await {
        db.execute(ADD, params!["0123456789abcdefg", 1_i64]).await.unwrap_err();
        assert!(number(&db, "0123456789abcdef").await.is_none(), "{db:?}");
    }
}

#[tokio::test]
async fn a_change_sees_what_others_have_committed_and_nothing_else() {
    for db in servers().await {
        db.execute(ADD, params!["a", 1_i64]).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let mut seen = async || {
            let row = tx.fetch_optional(NUMBER, params!["a"]).await.unwrap();
            row.unwrap().get::<i64>("number").unwrap()
        };
        assert_eq!(seen().await, 1, "{db:?}");
        let mut other = db.begin().await.unwrap();
        other.execute(SET, params!["a", 2_i64]).await.unwrap();
        assert_eq!(seen().await, 1, "{db:?}");
        other.commit().await.unwrap();
        assert_eq!(seen().await, 2, "{db:?}");
    }
}

#[tokio::test]
async fn changes_that_wait_for_each_other_are_told_apart_from_failures() {
    for db in servers().await {
        for id in ["a", "b"] {
            db.execute(ADD, params![id, 1_i64]).await.unwrap();
        }
        let (mut one, mut two) = (db.begin().await.unwrap(), db.begin().await.unwrap());
        one.execute(SET, params!["a", 2_i64]).await.unwrap();
        two.execute(SET, params!["b", 2_i64]).await.unwrap();
        let waiting = tokio::spawn(async move { one.execute(SET, params!["b", 3_i64]).await.map(|_| one) });
        let second = two.execute(SET, params!["a", 3_i64]).await;
        // Whoever was not given up waits for the other to be gone.
        drop(two);
        let first = waiting.await.unwrap();
        let refused: Vec<_> = [first.err(), second.err()].into_iter().flatten().collect();
        assert!(refused.len() == 1 && is_contention(&refused[0]), "{db:?}: {refused:?}");
        let failed = db.execute(ADD, params!["a", 1_i64]).await.unwrap_err();
        assert!(!is_contention(&failed), "{db:?}: {failed:?}");
    }
}

/// MariaDB gives up the one of the two that has changed less.
#[tokio::test]
async fn a_statement_of_its_own_that_was_given_up_is_run_again() {
    let [_, db] = servers().await;
    for id in ["a", "b", "c", "d", "e", "f"] {
        db.execute(ADD, params![id, 1_i64]).await.unwrap();
    }
    let mut change = db.begin().await.unwrap();
    for id in ["b", "c", "d", "e", "f"] {
        change.execute(SET, params![id, 10_i64]).await.unwrap();
    }
    let statement = tokio::spawn({
        let db = db.clone();
        async move { db.execute("UPDATE things SET number = number + 1", params![]).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    change.execute(SET, params!["a", 10_i64]).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(statement.await.unwrap().unwrap(), 6);
    assert_eq!((number(&db, "a").await, number(&db, "f").await), (Some(11), Some(11)));
}
