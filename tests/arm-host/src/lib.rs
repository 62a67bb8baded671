//! An arm64 machine with KVM for tests, on any developer's machine.
//!
//! [`Host::detect`] chooses: an arm64 machine with `/dev/kvm` is used as it is; anywhere else QEMU emulates one and runs a
//! stock Debian kernel in it. Either way [`Host::run_tests`] gives one report per test case.
//!
//! What it needs is installed ([`prerequisites`]) or fetched ([`packages`]) through apt, from the mirror with which the
//! machine's own apt is configured, and kept under one directory of the caller's choice. `tests/pc` fetches its parts alike.

#![forbid(unsafe_code)]

pub mod apt;
mod error;
mod host;
pub mod image;
pub mod initramfs;
pub mod kernel_modules;
pub mod libraries;
pub mod nested_qemu;
mod openbao;
pub mod packages;
pub mod prerequisites;
pub mod progress;
pub mod qemu;
pub mod selection;
pub mod suite;

pub use error::{Error, Result};
pub use host::{Host, Suite};
