//! What the agent takes from the world besides devices and network.

use std::time::{SystemTime, UNIX_EPOCH};

use jose::{Curve, EphemeralKey};
use rand::Rng as _;

/// Time, randomness and keys, passed in so that tests decide them.
pub trait Environment: Send + Sync {
    /// Seconds since 1970.
    fn now(&self) -> i64;
    /// Fills `bytes` with randomness.
    fn random(&self, bytes: &mut [u8]);
    /// A fresh key pair, to which a secret can be sealed.
    fn new_key(&self) -> EphemeralKey;
}

/// The clock and the random numbers of this guest's kernel.
#[derive(Debug, Default, Clone, Copy)]
pub struct System;

impl Environment for System {
    fn now(&self) -> i64 {
        // A clock before 1970 reads as 1970: no token is valid then.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    fn random(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }

    fn new_key(&self) -> EphemeralKey {
        EphemeralKey::generate(Curve::P384, &mut rand::rng())
    }
}
