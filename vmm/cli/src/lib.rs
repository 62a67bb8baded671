//! VMs by name, with libvirt's verbs and habits and no daemon.
//!
//! [`domain`] is what a domain is, [`state`] is what is known about domains, [`verbs`] is what the program `redoubt`
//! does with them.

#![forbid(unsafe_code)]

pub mod attest;
pub mod definition;
pub mod domain;
mod launch;
pub mod output;
mod progress;
pub mod state;
pub mod verbs;
pub mod xml;
