//! What `guest-init` is told ([`config`]) and what it answers ([`report`]).
//!
//! The harness on the developer's machine and the init in the guest share these types and nothing else.

#![forbid(unsafe_code)]

pub mod config;
pub mod report;
