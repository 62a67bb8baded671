//! The Realm's five measurement registers.

use evidence::hash::{Digest, HashAlgorithm};
use evidence::rmm;

/// The initial measurement (index 0) and the four extensible ones (1 to 4).
#[derive(Clone, Debug)]
pub struct Measurements {
    algorithm: HashAlgorithm,
    rim: Digest,
    rems: [Digest; 4],
}

impl Measurements {
    /// `rim` is final; the extensible registers start at zero.
    pub fn new(algorithm: HashAlgorithm, rim: Digest) -> Self {
        Self { algorithm, rim, rems: [Digest::zero(algorithm); 4] }
    }

    /// The Realm Initial Measurement.
    pub fn rim(&self) -> Digest {
        self.rim
    }

    /// The Realm Extensible Measurements, REM\[0\] first.
    pub fn rems(&self) -> [Digest; 4] {
        self.rems
    }

    /// Register `index` as RSI counts: 0 is the RIM.
    pub fn read(&self, index: u64) -> Option<Digest> {
        match usize::try_from(index).ok()? {
            0 => Some(self.rim),
            rem => self.rems.get(rem - 1).copied(),
        }
    }

    /// Extends register `index`, 1 to 4, by at most 64 bytes; false where the specification refuses it.
    pub fn extend(&mut self, index: u64, data: &[u8]) -> bool {
        let rem = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
        let Some(rem) = rem.and_then(|rem| self.rems.get_mut(rem)) else { return false };
        match rmm::extend(self.algorithm, rem, data) {
            Ok(extended) => {
                *rem = extended;
                true
            }
            Err(_) => false,
        }
    }
}
