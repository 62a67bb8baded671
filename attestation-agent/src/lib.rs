//! In-guest attestation agent.
//!
//! The agent proves to an attestation service what this guest is, and fetches secrets that the service releases to
//! such guests only. The guest trusts nothing outside but the service certificate it was built with: the challenge
//! must carry the agent's own key, and secrets come sealed to that key.
//!
//! - [`collect`], [`tsm`]: evidence from the kernel
//! - [`client`]: TLS to the service, over vsock or TCP; [`service`]: the service's REST interface
//! - [`fetch`]: one secret, once; [`report`]: what is said about it
//! - [`daemon`]: the local REST interface for programs in the guest
//! - [`config`]: options and configuration file
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod client;
pub mod collect;
pub mod config;
pub mod daemon;
mod error;
pub mod fetch;
pub mod report;
pub mod service;
#[cfg(test)]
mod testing;
pub mod tsm;

pub use error::{Error, Refusal, Result};
