//! The server on MariaDB.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod suite;
mod support;

const DATABASE: support::Database = support::Database::Mariadb;
