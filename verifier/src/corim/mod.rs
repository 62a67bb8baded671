//! Concise Reference Integrity Manifests (draft-ietf-rats-corim-11): reference values and keys as documents that
//! vendors and build systems publish, in Arm's profiles (draft-ydb-rats-cca-endorsements-04).
//!
//! A document is read whole or not at all: a part that cannot be represented is a [`CorimError`] that names it, since
//! an operator who imports half of what a vendor said does not know what is checked.

mod error;
mod export;
mod import;
mod platform;
mod realm;
mod signature;
#[cfg(test)]
mod tests;

pub use error::CorimError;
pub use export::{Header, platform_document, realm_document};
pub use import::import;
pub use platform::{ComponentEndorsement, KeyEndorsement, MaskedValue, PlatformEndorsement};
pub use realm::RealmEndorsement;
pub use signature::{Authority, CorimSigner, to_be_signed, with_signature};

use serde::Serialize;

/// Largest document that is read, in bytes: a platform's components take a few hundred each. Without a bound the
/// sender decides how much memory decoding takes.
pub const MAX_CORIM_SIZE: usize = 1024 * 1024;

/// Most endorsements that one document may hold; without a bound a small document could fill the store.
pub const MAX_ENDORSEMENTS: usize = 4096;

/// A document that was read, with who vouches for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Corim {
    /// The document's own identifier: text or a UUID.
    pub id: String,
    /// The trusted signer whose signature was verified; `None` for an unsigned document.
    pub signer: Option<String>,
    /// The first and last second of its validity since the Unix epoch, if it states them.
    pub validity: Validity,
    /// Measurements of Realms.
    pub realms: Vec<RealmEndorsement>,
    /// Software and configuration of platforms.
    pub platforms: Vec<PlatformEndorsement>,
    /// Attestation keys of platforms.
    pub keys: Vec<KeyEndorsement>,
}

/// When a document holds, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Validity {
    /// It is not to be used before.
    pub not_before: Option<i64>,
    /// It is not to be used after.
    pub not_after: Option<i64>,
}
