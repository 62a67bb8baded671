//! Which files Linux may have used: digests bound to paths.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use evidence::ima::FileDigest;
use serde::{Deserialize, Serialize, Serializer};

/// The expected files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImaReferences {
    /// Digests by path, or by name for buffers. A known file at another path is not known.
    #[serde(serialize_with = "sorted")]
    pub files: HashMap<String, Vec<FileReference>>,
    /// Paths that are not judged.
    pub exclude: Vec<PathPattern>,
    /// Values of the entry `boot_aggregate`; all zeros, as on a machine without a TPM, is always accepted.
    pub boot_aggregate: Vec<FileReference>,
}

impl ImaReferences {
    /// Whether `digest` may be at `path`.
    pub(in crate::logs) fn has(&self, path: &str, digest: &FileDigest<'_>) -> bool {
        self.files.get(path).is_some_and(|known| known.iter().any(|reference| reference.is(digest)))
    }

    /// Whether `path` is not judged.
    pub(in crate::logs) fn excludes(&self, path: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(path))
    }
}

/// The same references are the same text, whatever the order of the table.
fn sorted<S: Serializer>(
    files: &HashMap<String, Vec<FileReference>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    files.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
}

/// The digest of a file: `sha256:HEX`, or `verity:sha256:HEX` for that of fs-verity.
///
/// It points nowhere: there may be a hundred thousand, and each step to another place in memory costs the appraisal of a
/// list more than the hash of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileReference {
    verity: bool,
    algorithm: FileHash,
    value: [u8; MAX_VALUE],
}

const MAX_VALUE: usize = 64;

/// The algorithms that Linux measures files with, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum FileHash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    Sm3,
    Sm3Long,
    Streebog256,
    Streebog512,
}

impl FileHash {
    const ALL: [Self; 8] = [
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sm3,
        Self::Sm3Long,
        Self::Streebog256,
        Self::Streebog512,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sm3 => "sm3",
            Self::Sm3Long => "sm3-256",
            Self::Streebog256 => "streebog256",
            Self::Streebog512 => "streebog512",
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sm3 | Self::Sm3Long | Self::Streebog256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 | Self::Streebog512 => MAX_VALUE,
        }
    }
}

impl FileReference {
    /// Whether `digest` is this one.
    #[must_use]
    pub fn is(&self, digest: &FileDigest<'_>) -> bool {
        self.digest() == *digest
    }

    fn digest(&self) -> FileDigest<'_> {
        let value = self.value.get(..self.algorithm.len()).unwrap_or(&self.value);
        FileDigest { verity: self.verity, algorithm: self.algorithm.name(), value }
    }
}

impl fmt::Display for FileReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digest(), f)
    }
}

impl From<FileReference> for String {
    fn from(reference: FileReference) -> Self {
        reference.to_string()
    }
}

/// Text that is not the digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not the digest of a file: expected sha256:HEX, or verity:sha256:HEX")]
pub struct FileReferenceError {
    found: String,
}

impl FromStr for FileReference {
    type Err = FileReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (verity, digest) = match text.strip_prefix("verity:") {
            Some(digest) => (true, digest),
            None => (false, text),
        };
        let read = || {
            let (algorithm, value) = digest.split_once(':')?;
            let algorithm = FileHash::ALL.into_iter().find(|known| known.name() == algorithm)?;
            let mut bytes = [0; MAX_VALUE];
            hex::decode_to_slice(value, bytes.get_mut(..algorithm.len())?).ok()?;
            // A violation is all zeros; it must never be a known file.
            (bytes != [0; MAX_VALUE]).then_some(Self { verity, algorithm, value: bytes })
        };
        read().ok_or_else(|| FileReferenceError { found: text.chars().take(200).collect() })
    }
}

impl TryFrom<String> for FileReference {
    type Error = FileReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_of_its_algorithm_and_its_whole_value() {
        let reference: FileReference = format!("sha1:{}", "11".repeat(20)).parse().unwrap();
        let digest = |verity, algorithm, value| FileDigest { verity, algorithm, value };
        assert!(reference.is(&digest(false, "sha1", &[0x11; 20])));
        let padded = [&[0x11; 20][..], &[0; 12]].concat();
        for other in [
            digest(true, "sha1", &[0x11; 20]),
            digest(false, "sha256", &[0x11; 20]),
            digest(false, "sha1", &[0x11; 19]),
            digest(false, "sha1", &padded),
        ] {
            assert!(!reference.is(&other), "{other}");
        }
    }
}
