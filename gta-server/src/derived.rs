//! What is made of a tenant's documents, kept for as long as they stay what they are: a set of fifty thousand files is read
//! and authenticated when it changes, not with every attestation.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use service_kit::problem::Problem;

/// Without this bound every tenant that was ever active would stay in memory.
const MAX_VALUES: usize = 256;

/// Values by what they are for, each with the revision `R` of the documents that it was made of.
pub struct Derived<K, R, V>(Mutex<HashMap<K, (R, Arc<V>)>>);

impl<K, R, V> Default for Derived<K, R, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, R: PartialEq, V> Derived<K, R, V> {
    /// The value for `key`, made now if it was made of another revision. `revision` must have been read before `make` reads.
    pub async fn get(
        &self,
        key: K,
        revision: R,
        make: impl AsyncFnOnce() -> Result<V, Problem>,
    ) -> Result<Arc<V>, Problem> {
        if let Some((known, value)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && *known == revision
        {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(make().await?);
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() >= MAX_VALUES {
            values.clear();
        }
        values.insert(key, (revision, Arc::clone(&value)));
        Ok(value)
    }
}
