//! Reference values: the measurements that an operator expects.

use std::collections::BTreeSet;
use std::sync::Arc;

use evidence::hash::Digest;
use serde_json::{Map, Value};

use crate::anchor::Provenance;
use crate::corim::PlatformEndorsement;
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

/// The expected software and configuration of CCA platforms of one implementation, or of one instance of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformReference {
    /// The operator's name for it.
    pub name: String,
    /// What is expected, of which platforms.
    pub expected: PlatformEndorsement,
    /// Where it came from.
    pub provenance: Provenance,
    /// When it ends to be valid, seconds since the Unix epoch; absent if never. One that has expired matches nothing, and
    /// platforms that it is about still need one that they match.
    pub expires_at: Option<i64>,
}

/// Finds reference values.
pub trait ReferenceValues {
    /// All references whose initial measurement is `rim`.
    ///
    /// # Errors
    /// [`StoreError`] if the references cannot be read; absence is an empty list.
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, StoreError>;

    /// All references for CCA platforms of this implementation, of whatever instance, expired ones too. A
    /// store that keeps none knows none.
    ///
    /// # Errors
    /// [`StoreError`] if the references cannot be read; absence is an empty list.
    fn platforms(&self, implementation_id: &[u8; 32]) -> Result<Vec<PlatformReference>, StoreError> {
        let _ = implementation_id;
        Ok(Vec::new())
    }

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
