//! Logs from outside: one good boot with files that ran after it, and one story per way in which logs are refused.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod boot;
mod end_to_end;
mod golden;
mod harness;
mod ima;
mod import;
mod mutations;
mod signed;
mod truth;
mod verity;
