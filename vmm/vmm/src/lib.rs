//! The virtual machine monitor: one process per VM.
//!
//! A configuration ([`config`]) becomes a launch plan ([`launch`]), the plan a board with its devices, the board a
//! running VM ([`run`]). The same plan without a VM gives the measurement that a verifier expects ([`launch::measure`]).

#![forbid(unsafe_code)]

mod attachments;
mod board;
pub mod config;
mod confinement;
mod console;
mod disk;
mod error;
mod event;
mod interface;
mod isolation;
pub mod launch;
mod platform;
mod rate_limit;
mod vcpu;
mod vmm;

pub use error::Error;
pub use platform::PlatformIdentity;
pub use sandbox::SeccompMode;
pub use vmm::{Outcome, RunOptions, run};
