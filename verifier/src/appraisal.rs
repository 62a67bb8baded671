//! The result of an appraisal that passed. There is no result for one that did not: that is a refusal.

use serde_json::{Map, Value};

use crate::anchor::TrustAnchor;
use crate::reference::RealmReference;
use crate::verdict::PolicyOutput;

/// Evidence that passed every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Appraisal {
    /// The kind of trusted execution environment, as in the evidence envelope.
    pub tee: &'static str,
    /// The verified claims, as policies saw them.
    pub claims: Value,
    /// The verified claims under flat, dotted names, for secGear's `tcb_status`.
    pub tcb_status: Map<String, Value>,
    /// What each policy said.
    pub policies: Vec<PolicyOutput>,
    /// The trust anchor that verified the platform signature.
    pub anchor: TrustAnchor,
    /// The reference that the measurements matched.
    pub reference: RealmReference,
}
