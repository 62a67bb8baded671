//! VMs by name, with libvirt's verbs and habits and no daemon.
//!
//! [`domain`] is what a domain is, [`state`] is what is known about domains; the program `redoubt` is the rest.

#![forbid(unsafe_code)]

pub mod domain;
pub mod state;
