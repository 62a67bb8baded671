//! Which files Linux may have used: digests bound to paths, keys that sign files, and what is not judged.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{FileReference, FileSigner, KnownFiles, PathPattern};

/// The expected files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImaReferences {
    /// Digests by path, or by name for buffers. A known file at another path is not known.
    pub files: KnownFiles,
    /// Paths that are not judged.
    pub exclude: Vec<PathPattern>,
    /// Names of buffers (template `ima-buf`), such as keyrings, that are not judged.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ignored_buffers: BTreeSet<String>,
    /// Whose signature (templates `ima-sig` and `ima-sigv2`) makes a file known at any path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<FileSigner>,
    /// Values of the entry `boot_aggregate`; all zeros, as on a machine without a TPM, is always accepted.
    pub boot_aggregate: Vec<FileReference>,
}

impl ImaReferences {
    /// Adds what `other` expects: what either accepts is accepted then.
    pub fn extend(&mut self, other: &Self) {
        self.files.extend(&other.files);
        self.exclude.extend_from_slice(&other.exclude);
        self.ignored_buffers.extend(other.ignored_buffers.iter().cloned());
        self.signers.extend_from_slice(&other.signers);
        self.boot_aggregate.extend_from_slice(&other.boot_aggregate);
    }

    /// Whether nothing is expected: no file could pass.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.exclude.is_empty()
            && self.ignored_buffers.is_empty()
            && self.signers.is_empty()
    }

    /// Whether `path` is not judged.
    pub(in crate::logs) fn excludes(&self, path: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(path))
    }
}
