//! Time and randomness, passed in so that tests decide them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::SeedableRng as _;
use rand::TryRng as _;
use rand::rngs::{StdRng, SysRng};
use zeroize::Zeroizing;

/// The system's random number generator failed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system's random number generator failed")]
pub struct EntropyError;

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`EntropyError`] if nothing unpredictable can be had; `bytes` must then not be used.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// A wall clock.
pub trait Clock: Send + Sync {
    /// Seconds since the Unix epoch.
    fn now(&self) -> i64;
}

/// The operating system's clock and random number generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Entropy for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        SysRng.try_fill_bytes(bytes).map_err(|_| EntropyError)
    }
}

impl Clock for System {
    fn now(&self) -> i64 {
        // A clock before 1970 makes every token and challenge expired: closed, not open.
        let seconds =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(i64::MAX as u64, |since| since.as_secs());
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }
}

/// A moment that stays, and bytes that are never the same twice and in every run alike: for harnesses, in which an input must
/// do the same each time.
#[derive(Debug)]
pub struct Predictable {
    now: i64,
    count: AtomicU64,
}

impl Predictable {
    /// At `now`, seconds since the Unix epoch.
    #[must_use]
    pub fn at(now: i64) -> Environment {
        let predictable = Arc::new(Self { now, count: AtomicU64::new(1) });
        Environment { clock: Arc::<Self>::clone(&predictable), entropy: predictable }
    }
}

impl Clock for Predictable {
    fn now(&self) -> i64 {
        self.now
    }
}

impl Entropy for Predictable {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(8) {
            let count = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            for (byte, value) in chunk.iter_mut().zip(count.iter().rev()) {
                *byte = *value;
            }
        }
        Ok(())
    }
}

/// What the service takes from its surroundings.
#[derive(Clone)]
pub struct Environment {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Environment {
    /// The real one.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(System), entropy: Arc::new(System) }
    }

    /// `N` unpredictable bytes.
    ///
    /// # Errors
    /// [`EntropyError`] if there are none.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], EntropyError> {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A cryptographic generator with a fresh seed, for interfaces that cannot report failure.
    ///
    /// # Errors
    /// [`EntropyError`] if it cannot be seeded.
    pub fn rng(&self) -> Result<StdRng, EntropyError> {
        let seed = Zeroizing::new(self.random::<32>()?);
        Ok(StdRng::from_seed(*seed))
    }
}
