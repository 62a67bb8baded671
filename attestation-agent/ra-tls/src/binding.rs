//! How a challenge is tied to a key.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Length of a challenge: a nonce of the verifier, and the hash of the key.
pub(crate) const CHALLENGE_LEN: usize = 64;
/// Length of the verifier's half.
pub(crate) const NONCE_LEN: usize = 32;

/// The second half of a challenge that attests the key in `spki` (SubjectPublicKeyInfo, DER).
pub(crate) fn user_data(spki: &[u8]) -> [u8; 32] {
    Sha256::digest(spki).into()
}

/// Whether `challenge` is for the key in `spki`.
pub(crate) fn is_bound(challenge: &[u8; CHALLENGE_LEN], spki: &[u8]) -> bool {
    let half = challenge.get(NONCE_LEN..).unwrap_or_default();
    half.ct_eq(&user_data(spki)).into()
}
