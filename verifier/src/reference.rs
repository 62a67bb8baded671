//! Reference values: the measurements that an operator expects.

use std::collections::BTreeSet;
use std::sync::Arc;

use evidence::hash::Digest;
use serde_json::{Map, Value};

use crate::anchor::Provenance;
use crate::logs::LogReferences;
use crate::refusal::StoreError;

/// The expected measurements of one Realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmReference {
    /// The operator's name for it.
    pub name: String,
    /// Realm Initial Measurement.
    pub rim: Digest,
    /// Realm Personalisation Value; `None` accepts any.
    pub rpv: Option<[u8; 64]>,
    /// Realm Extensible Measurements 0 to 3; `None` accepts any.
    pub rems: [Option<Digest>; 4],
    /// What may be in the logs; shared, because there may be a hundred thousand files in it.
    pub logs: Option<Arc<LogReferences>>,
    /// Where it came from.
    pub provenance: Provenance,
}

/// Finds the reference values of a Realm.
pub trait ReferenceValues {
    /// All references whose initial measurement is `rim`.
    ///
    /// # Errors
    /// [`StoreError`] if the references cannot be read; absence is an empty list.
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, StoreError>;

    /// Which of `values` are registered under exactly their name: secGear's reference query. A store that keeps no
    /// values by name knows none.
    ///
    /// # Errors
    /// [`StoreError`] if the references cannot be read.
    fn registered(&self, values: &Map<String, Value>) -> Result<BTreeSet<String>, StoreError> {
        let _ = values;
        Ok(BTreeSet::new())
    }
}
