//! Reference values for logs: what an operator expects to have been booted and run, by role and by path.

mod boot;
mod file_reference;
mod file_signer;
mod files;
mod ima;
mod import;
mod keylime;
mod path_pattern;

use std::collections::{BTreeMap, BTreeSet};

use evidence::hash::Digest;
use serde::{Deserialize, Serialize};

pub use boot::{BootReferences, KernelReference};
pub use file_reference::FileReference;
pub use file_signer::{FileSigner, FileSignerError};
pub use files::KnownFiles;
pub use ima::ImaReferences;
pub use import::{ImportError, digest_list};
pub use keylime::{RuntimePolicy, RuntimePolicyError};
pub use path_pattern::{PathPattern, PathPatternError};

/// The expectations that belong to one [`crate::RealmReference`]. Documented in `docs/log-appraisal.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogReferences {
    /// Measured boot. If it is there, evidence without the log is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootReferences>,
    /// Files that Linux may have used. If it is there, evidence without the list is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ima: Option<ImaReferences>,
    /// Lists of digests by name, as secGear has them: good for any role and any path. They count only under a policy
    /// that names them, because with such a list a known initial RAM disk is as good as a known kernel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub untyped: BTreeMap<String, BTreeSet<Digest>>,
}

impl LogReferences {
    /// Whether there is a list that is among `named`.
    pub(super) fn has_any(&self, named: &BTreeSet<String>) -> bool {
        named.iter().any(|name| self.untyped.contains_key(name))
    }

    /// Whether a list that is among `named` has `digest`.
    pub(super) fn untyped_has(&self, named: &BTreeSet<String>, digest: &Digest) -> bool {
        named.iter().filter_map(|name| self.untyped.get(name)).any(|list| list.contains(digest))
    }
}
