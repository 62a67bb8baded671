//! Step `nonce`: the guest's token answers the challenge that was issued.

use subtle::ConstantTimeEq;

use super::AttestedGuest;
use crate::refusal::{Code, Refusal, Step};

/// Compares all 64 bytes: a prefix comparison would let an attester choose the rest, which binds the session key.
pub fn verify(guest: &AttestedGuest<'_>, challenge: &[u8; 64]) -> Result<(), Refusal> {
    if !bool::from(guest.challenge.ct_eq(challenge)) {
        return Err(Refusal::new(
            Step::Nonce,
            Code::NonceMismatch,
            "the attested challenge is not the issued one (zero-padded to 64 bytes): \
             take a new challenge and a new token for it",
        ));
    }
    Ok(())
}
