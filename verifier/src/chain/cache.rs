//! What was verified before, within bounds.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

/// Most entries: a fleet of thousands of devices stays warm, and nobody fills the memory by sending many.
const MAX_ENTRIES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A SHA-256 over everything that the verified fact depends on.
pub type Key = [u8; 32];

/// The entries that were used last.
pub struct Cache<V>(Mutex<LruCache<Key, V>>);

impl<V: Clone> Cache<V> {
    pub fn new() -> Self {
        Self(Mutex::new(LruCache::new(MAX_ENTRIES)))
    }

    pub fn get(&self, key: &Key) -> Option<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub fn put(&self, key: Key, value: V) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let cache = Cache::new();
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        for number in 0..=MAX_ENTRIES.get() {
            cache.put(key(number), number);
        }
        assert_eq!(cache.get(&key(0)), None);
        assert_eq!(cache.get(&key(1)), Some(1));
        assert_eq!(cache.get(&key(MAX_ENTRIES.get())), Some(MAX_ENTRIES.get()));
    }
}
