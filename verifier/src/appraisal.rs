//! The result of an appraisal that passed. There is no result for one that did not: that is a refusal.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::anchor::TrustAnchor;
use crate::chain::Device;
use crate::logs::LogReport;
use crate::reference::RealmReference;
use crate::rego::Document;
use crate::verdict::PolicyOutput;

/// Evidence that passed every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Appraisal {
    /// The kind of trusted execution environment, as in the evidence envelope.
    pub tee: &'static str,
    /// The verified claims, as policies saw them.
    pub claims: Document,
    /// The verified claims under flat, dotted names, for secGear's `tcb_status`.
    pub tcb_status: Map<String, Value>,
    /// What each policy said.
    pub policies: Vec<PolicyOutput>,
    /// What the platform's signature was verified with.
    pub trust: PlatformTrust,
    /// The reference that the measurements matched.
    pub reference: RealmReference,
    /// What the logs proved.
    pub logs: LogReport,
}

/// Why a platform is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformTrust {
    /// Its key is a registered trust anchor.
    Anchor(TrustAnchor),
    /// Its certificate chain ends at an installed root.
    Certificates(Arc<Device>),
}

impl PlatformTrust {
    /// The operator's name for the anchor, or the name of the root.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Anchor(anchor) => &anchor.name,
            Self::Certificates(device) => &device.root_subject,
        }
    }

    /// Whether the platform signs with a development key, which policies accepted by name.
    #[must_use]
    pub const fn is_development(&self) -> bool {
        match self {
            Self::Anchor(anchor) => anchor.development,
            Self::Certificates(_) => false,
        }
    }
}
