//! What a VM is made of and what can be asked of it.
//!
//! The types of the VMM's REST interface, and of the configuration files that mean the same thing. Names are those of
//! Cloud Hypervisor's v1 interface where the same thing is meant; `realm` and `sandbox` are our own. A field that is
//! not known is an error that names it, never ignored. Whether a configuration can be run is the VMM's to say: this
//! crate has no checks, so that a client does not depend on the machine that answers it.

#![forbid(unsafe_code)]

pub mod config;
pub mod message;

pub use config::VmConfig;
