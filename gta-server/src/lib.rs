//! The Global Trust Authority: attests machines with TPMs for many tenants, compatible on the wire with openEuler's. See
//! `docs/gta.md`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod api;
mod appraise;
pub mod auth;
mod console;
mod derived;
#[cfg(feature = "harness")]
pub mod harness;
pub mod health;
pub mod identity;
mod json;
pub mod metrics;
pub mod model;
pub mod nonce;
mod recent;
pub mod rewrap;
pub mod schedule;
pub mod service;
pub mod store;
pub mod token;
pub mod webhooks;
