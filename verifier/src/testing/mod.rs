//! Platforms of our own: mints evidence with keys that exist only here, and keeps what an operator would register of them.
//! For tests and benchmarks, of this crate and of those that use it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test panics")]

mod authority;
mod cca;
mod store;
mod tpm;
mod virtcca;

pub use authority::Authority;
pub use cca::{Mint, PUBLISHED_CPAK, PUBLISHED_RAK, digest, key, key_from_hex, point};
pub use store::{ANCHOR, Broken, NOW, Registered};
pub use tpm::{Tpm, TpmQuote};
pub use virtcca::{DeviceSigner, VirtccaMint};
