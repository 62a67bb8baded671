//! Which files Linux may have used: digests bound to paths.

use serde::{Deserialize, Serialize};

use super::{FileReference, KnownFiles};

/// The expected files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImaReferences {
    /// Digests by path, or by name for buffers. A known file at another path is not known.
    pub files: KnownFiles,
    /// Paths that are not judged.
    pub exclude: Vec<PathPattern>,
    /// Values of the entry `boot_aggregate`; all zeros, as on a machine without a TPM, is always accepted.
    pub boot_aggregate: Vec<FileReference>,
}

impl ImaReferences {
    /// Whether `path` is not judged.
    pub(in crate::logs) fn excludes(&self, path: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(path))
    }
}

/// An absolute path, or with `*` at its end all that begin like it: `/var/log/*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);

impl PathPattern {
    fn matches(&self, path: &str) -> bool {
        match self.0.strip_suffix('*') {
            // A path that climbs out of the directory only seems to be in it.
            Some(prefix) => path.starts_with(prefix) && !path.split('/').any(|part| part == ".."),
            None => path == self.0,
        }
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.0
    }
}

/// Text that excludes nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} does not say which paths to exclude: expected an absolute path, or a directory and /*, and not all of /"
)]
pub struct PathPatternError {
    found: String,
}

impl TryFrom<String> for PathPattern {
    type Error = PathPatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let prefix = text.strip_suffix('*').unwrap_or(&text);
        let whole = text.len() == prefix.len() || prefix.ends_with('/');
        if prefix.len() > 1 && prefix.starts_with('/') && whole && !prefix.contains('*') {
            return Ok(Self(text));
        }
        Err(PathPatternError { found: text.chars().take(200).collect() })
    }
}
