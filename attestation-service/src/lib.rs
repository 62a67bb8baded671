//! The CVM verifier and key broker: challenges, attestation tokens and resources over TLS, and an admin plane on a Unix
//! socket. [`public::router`] and [`admin::router`] run in process for tests.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod admin;
pub mod api;
pub mod authorities;
pub mod config;
pub mod harness;
pub mod import;
mod issue;
pub mod metrics;
pub mod names;
pub mod public;
pub mod release;
pub mod rewrap;
mod secgear;
pub mod service;
pub mod store;
pub mod token;

pub use service_kit::{environment, problem, serve, vault};
use service_kit::{extract, http};
