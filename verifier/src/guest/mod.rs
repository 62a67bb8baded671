//! What is asked of a guest whatever its TEE, once the signature over its claims was verified.

pub mod nonce;
pub mod reference_values;

use evidence::hash::{Digest, HashAlgorithm};

/// Claims about a guest under a verified signature by an attested key.
pub struct AttestedGuest<'a> {
    /// What the guest gave when it asked for its token.
    pub challenge: &'a [u8; 64],
    /// Hash function of the measurements.
    pub hash: HashAlgorithm,
    /// Initial measurement.
    pub rim: Digest,
    /// Personalisation value.
    pub rpv: &'a [u8; 64],
    /// Extensible measurements.
    pub rems: &'a [Digest; 4],
}
