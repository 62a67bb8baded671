//! In-guest attestation agent.
//!
//! The agent proves to an attestation service what this guest is, and fetches secrets that the service releases to
//! such guests only. The guest trusts nothing outside but the service certificate it was built with: the challenge
//! must carry the agent's own key, and secrets come sealed to that key.
//!
//! - [`collect`]: evidence from the kernel's devices, and the logs
//! - [`client`]: TLS to the service, over vsock or TCP; [`service`]: the service's REST interface
//! - [`agent`]: what the agent does for programs; [`rest`]: the interface through which they ask
//! - [`fetch`]: one secret, once; [`report`]: what is said about it
//! - [`gta`]: this machine's TPM, attested by a Global Trust Authority
//! - `local`: evidence judged without a service (feature `local-verify`)
//! - [`config`]: options and configuration files; [`environment`]: time and randomness; [`whole_file`]: secrets and state on disk
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod agent;
pub mod client;
pub mod collect;
pub mod config;
pub mod environment;
mod error;
pub mod fetch;
pub mod gta;
#[cfg(feature = "local-verify")]
pub mod local;
pub mod report;
pub mod rest;
pub mod service;
#[cfg(test)]
mod testing;
pub mod whole_file;

pub use error::{Error, Refusal, Result};
