//! Evidence of TPMs: whose quotes are believed, and what the logs beside them prove.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod boot;
mod endorsement;
mod logs;
mod quotes;
mod swtpm;
