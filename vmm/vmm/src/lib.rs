//! The virtual machine monitor: one process per VM.
//!
//! A configuration ([`config`]) becomes a launch plan ([`launch`]), the plan a board with its devices, the board a
//! running VM, whose life one thread owns ([`control`]) and clients direct over a Unix socket ([`rest`]). [`run`] puts
//! it all together. The same plan without a VM gives the measurement that a verifier expects ([`launch::measure`]).

#![forbid(unsafe_code)]

mod attachments;
mod board;
pub mod config;
mod confinement;
mod console;
pub mod control;
mod disk;
mod endpoint;
mod error;
mod event;
mod host;
mod interface;
mod isolation;
pub mod launch;
mod memory;
mod monitor;
mod platform;
mod pmem;
mod rate_limit;
mod realm_backend;
pub mod rest;
mod vcpu;
mod vhost_user;
mod vmm;

pub use control::Outcome;
pub use endpoint::Endpoint;
pub use error::Error;
pub use event::Event;
pub use monitor::EventMonitor;
pub use platform::PlatformIdentity;
pub use sandbox::SeccompMode;
pub use vmm::{RunOptions, Start, run};
