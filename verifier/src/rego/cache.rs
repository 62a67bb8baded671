//! Compiled modules by what they were compiled from.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{CompileError, Rego, sha256};

/// Without this bound every policy that was ever registered would stay in memory.
const MAX_MODULES: usize = 256;

/// Keeps compiled modules, so that each text is compiled once and not once per appraisal.
#[derive(Debug, Default)]
pub struct RegoCache(Mutex<HashMap<Key, Rego>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    entry_point: String,
    sha256: [u8; 32],
}

impl RegoCache {
    /// The module `text` with `entry_point`, compiled now if it is not known yet.
    ///
    /// # Errors
    /// As [`Rego::compile`]; failures are not kept.
    pub fn get(&self, id: &str, entry_point: &str, text: &str) -> Result<Rego, CompileError> {
        let key = Key { entry_point: entry_point.to_owned(), sha256: sha256(text) };
        // A thread that panicked while it held the lock left a map of whole entries behind.
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let compiled = Rego::compile(id, entry_point, text)?;
        let mut modules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if modules.len() >= MAX_MODULES {
            modules.clear();
        }
        modules.insert(key, compiled.clone());
        Ok(compiled)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rego::APPRAISAL;

    const TEXT: &str = "package attestation\noutput := {\"allow\": true}";

    #[test]
    fn compiles_a_text_once_for_each_entry_point() {
        let cache = RegoCache::default();
        let first = cache.get("a.rego", APPRAISAL, TEXT).unwrap();
        let again = cache.get("b.rego", APPRAISAL, TEXT).unwrap();
        assert!(Arc::ptr_eq(&first.0, &again.0));
        assert!(cache.get("a.rego", "data.attestation.other", TEXT).is_err());
        let other = cache.get("a.rego", APPRAISAL, "package attestation\noutput := {}").unwrap();
        assert!(!Arc::ptr_eq(&first.0, &other.0));
    }

    #[test]
    fn keeps_a_bounded_number_of_modules() {
        let cache = RegoCache::default();
        for number in 0..=MAX_MODULES {
            cache.get("a.rego", APPRAISAL, &format!("{TEXT} # {number}")).unwrap();
        }
        assert!(cache.0.lock().unwrap().len() <= MAX_MODULES);
    }
}
