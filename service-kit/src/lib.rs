//! What the services have in common, and what decides nothing about machines: one database interface, problem documents,
//! bodies and their bounds, secrets at rest, signing keys, tokens of issuers, listeners, the log. Time and randomness are
//! passed in.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod db;
pub mod environment;
pub mod extract;
pub mod http;
pub mod log;
pub mod metrics;
pub mod oidc;
mod outbound;
pub mod private_file;
pub mod problem;
pub mod schema;
pub mod serve;
pub mod signing;
pub mod vault;
