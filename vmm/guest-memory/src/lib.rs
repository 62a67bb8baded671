//! Guest memory on the host: how it is mapped, on which node it lies, what the kernel is advised, how it is given back.
//!
//! The only crate that maps guest memory, and so the only one that tells the kernel something about these mappings.

mod advice;
mod error;
mod host;
mod map;

pub use advice::discard;
pub use error::Error;
pub use map::{Backing, HugePages, Options, map, map_file};
