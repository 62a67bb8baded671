//! The board: memory map, device tree, kernel loading, launch plan.
//!
//! Pure functions: nothing here opens a file, reads a clock or knows of KVM. The same arguments give the same bytes,
//! which is what lets a verifier compute offline what a launch measures.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod fdt;
pub mod kernel;
pub mod launch;
pub mod layout;
pub mod topology;
