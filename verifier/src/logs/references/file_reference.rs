//! The digest of one file.

use std::fmt;
use std::str::FromStr;

use evidence::ima::FileDigest;
use serde::{Deserialize, Serialize};

/// The digest of a file: `sha256:HEX`, or `verity:sha256:HEX` for that of fs-verity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileReference {
    kind: DigestKind,
    value: [u8; MAX_VALUE],
}

const MAX_VALUE: usize = 64;

/// What a digest is of, and which function made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DigestKind {
    verity: bool,
    hash: FileHash,
}

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

    fn from_name(name: &str) -> Option<Self> {
        // Once for each entry of a list: a comparison by length first, not with one name after the other.
        Some(match name.as_bytes() {
            b"sha1" => Self::Sha1,
            b"sha256" => Self::Sha256,
            b"sha384" => Self::Sha384,
            b"sha512" => Self::Sha512,
            b"sm3" => Self::Sm3,
            b"sm3-256" => Self::Sm3Long,
            b"streebog256" => Self::Streebog256,
            b"streebog512" => Self::Streebog512,
            _ => return None,
        })
    }

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

impl DigestKind {
    const VERITY: u8 = 0x80;

    /// The kind of `digest`, if a reference can be of it and the value has its length.
    pub(super) fn of(digest: &FileDigest<'_>) -> Option<Self> {
        let hash = FileHash::from_name(digest.algorithm).filter(|hash| hash.len() == digest.value.len())?;
        Some(Self { verity: digest.verity, hash })
    }

    /// One byte for each kind.
    pub(super) const fn tag(self) -> u8 {
        let hash = self.hash as u8;
        if self.verity { hash | Self::VERITY } else { hash }
    }

    /// The kind with this tag.
    pub(super) fn from_tag(tag: u8) -> Option<Self> {
        let hash = FileHash::ALL.get(usize::from(tag & !Self::VERITY))?;
        Some(Self { verity: tag & Self::VERITY != 0, hash: *hash })
    }

    /// Bytes in a value.
    pub(super) const fn len(self) -> usize {
        self.hash.len()
    }
}

impl FileReference {
    /// The digest `value` of this kind, if it has its length.
    pub(super) fn new(kind: DigestKind, value: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_VALUE];
        bytes.get_mut(..kind.len()).filter(|to| to.len() == value.len())?.copy_from_slice(value);
        Some(Self { kind, value: bytes })
    }

    /// Whether `digest` is this one.
    #[must_use]
    pub fn is(&self, digest: &FileDigest<'_>) -> bool {
        self.digest() == *digest
    }

    pub(super) fn digest(&self) -> FileDigest<'_> {
        let value = self.value.get(..self.kind.len()).unwrap_or(&self.value);
        FileDigest { verity: self.kind.verity, algorithm: self.kind.hash.name(), value }
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
            let hash = FileHash::from_name(algorithm)?;
            let mut bytes = [0; MAX_VALUE];
            hex::decode_to_slice(value, bytes.get_mut(..hash.len())?).ok()?;
            // A violation is all zeros; it must never be a known file.
            (bytes != [0; MAX_VALUE]).then_some(Self { kind: DigestKind { verity, hash }, value: bytes })
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

    #[test]
    fn every_kind_has_a_tag_of_its_own_and_its_name() {
        for (verity, hash) in [false, true].into_iter().flat_map(|it| FileHash::ALL.map(|hash| (it, hash))) {
            let kind = DigestKind { verity, hash };
            assert_eq!(DigestKind::from_tag(kind.tag()), Some(kind));
            assert_eq!(FileHash::from_name(hash.name()), Some(hash));
        }
        assert_eq!(DigestKind::from_tag(8), None);
        assert_eq!(DigestKind::from_tag(0x88), None);
    }
}
