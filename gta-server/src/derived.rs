//! What is made of a tenant's documents, kept for as long as they stay what they are: a set of fifty thousand files is read
//! and authenticated when it changes, not with every attestation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use service_kit::problem::Problem;

use crate::store::Revision;

/// Without this bound every tenant that was ever active would stay in memory.
const MAX_TENANTS: usize = 256;

/// Values by tenant.
pub struct Derived<V>(Mutex<HashMap<String, (Revision, Arc<V>)>>);

impl<V> Default for Derived<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V> Derived<V> {
    /// The value for `key`, made now if it was made of another revision. `revision` must have been read before `make` reads.
    pub async fn get(
        &self,
        key: &str,
        revision: Revision,
        make: impl AsyncFnOnce() -> Result<V, Problem>,
    ) -> Result<Arc<V>, Problem> {
        if let Some((known, value)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key)
            && *known == revision
        {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(make().await?);
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() >= MAX_TENANTS {
            values.clear();
        }
        values.insert(key.to_owned(), (revision, Arc::clone(&value)));
        Ok(value)
    }
}
