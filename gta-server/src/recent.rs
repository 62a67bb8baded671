//! What was read from the database a moment ago, and is not asked for again at once: a fleet asks the same a thousand times
//! a second.
//!
//! What this instance changes, it sees at once; what another one changes, after [`crate::service::Settings::fresh`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without this bound everybody who ever asked would stay in memory.
const MAX_ENTRIES: usize = 1024;

/// Values by what they are about.
pub struct Recent<K, V>(Mutex<HashMap<K, Entry<V>>>);

struct Entry<V> {
    asked: Instant,
    /// How many changes this instance had made.
    changes: u64,
    value: V,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// The value for `key`, read now unless that was done within `fresh` and since the last of `changes`.
    pub async fn get<E>(
        &self,
        key: K,
        fresh: Duration,
        changes: u64,
        read: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(entry) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && entry.changes == changes
            && entry.asked.elapsed() < fresh
        {
            return Ok(entry.value.clone());
        }
        let asked = Instant::now();
        let value = read().await?;
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key, Entry { asked, changes, value: value.clone() });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_value_is_read_again_after_its_time_and_after_a_change() {
        let (recent, reads) = (Recent::default(), Cell::new(0));
        let get = async |fresh, changes| {
            let read = async || {
                reads.set(reads.get() + 1);
                Ok::<_, ()>(reads.get())
            };
            recent.get("key", fresh, changes, read).await.unwrap()
        };
        let long = Duration::from_secs(3600);
        assert_eq!((get(long, 0).await, get(long, 0).await), (1, 1));
        assert_eq!((get(long, 1).await, get(long, 1).await), (2, 2));
        assert_eq!((get(Duration::ZERO, 1).await, get(Duration::ZERO, 1).await), (3, 4));
        let failing = async || Err::<i32, _>("no");
        assert_eq!(recent.get("other", long, 1, failing).await, Err("no"));
        assert_eq!(recent.get("other", long, 1, async || Ok::<_, ()>(7)).await, Ok(7));
    }
}
