//! The service on SQLite.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

mod suite;
mod support;

const DATABASE: support::Database = support::Database::Sqlite;
