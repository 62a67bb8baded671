//! What the attestation tokens of Arm CCA and virtCCA have in common: a tagged map of two signed tokens, COSE_Sign1, and
//! maps of labelled claims.
//!
//! Decoding is strict: definite lengths, each mandatory claim exactly once, exact sizes, known algorithms, nothing left
//! over; claims that are not known are tolerated, as draft-ffm-rats-cca-token asks. Decoding verifies nothing: [`Signed`]
//! carries what is needed to do so.

pub(crate) mod claims;
pub(crate) mod cose;
mod error;
mod key;
mod lifecycle;
pub(crate) mod wrapper;

pub use self::claims::{Claim, Scope};
pub use self::cose::{SignatureAlgorithm, Signed, sign};
pub use self::error::{DecodeError, Token};
pub use self::key::{Curve, KeyError};
pub use self::lifecycle::{Lifecycle, LifecycleState};
pub use self::wrapper::Wrapper;

/// Largest token that is read, in bytes. Real ones have 1 to 3 KiB; without a bound a sender decides how much memory
/// decoding takes.
pub const MAX_TOKEN_SIZE: usize = 64 * 1024;

/// Most software components that are read. Platforms list about a dozen; each costs whoever compares and stores them.
pub const MAX_COMPONENTS: usize = 64;
