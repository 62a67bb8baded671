//! The hash functions that evidence may name, and their values.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Sha256, Sha384, Sha512};
use thiserror::Error;

/// A hash function that Arm CCA tokens may use (IANA named information hash algorithms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// The name as tokens write it, such as `sha-256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// The algorithm with this exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Bytes in a value of this function.
    #[expect(clippy::len_without_is_empty, reason = "a size, not a collection")]
    pub fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Hashes `data`.
    pub fn digest(self, data: &[u8]) -> Digest {
        self.digest_parts([data])
    }

    /// Hashes the concatenation of `parts`.
    pub(crate) fn digest_parts<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        fn run<'a, H: sha2::Digest>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
            let mut hash = H::new();
            for part in parts {
                hash.update(part);
            }
            Digest::copy_of(&hash.finalize())
        }
        match self {
            Self::Sha256 => run::<Sha256>(parts),
            Self::Sha384 => run::<Sha384>(parts),
            Self::Sha512 => run::<Sha512>(parts),
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const MAX_LEN: usize = 64;

/// A hash value of 32, 48 or 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    len: u8,
    bytes: [u8; MAX_LEN],
}

impl Digest {
    /// The all-zero value of the algorithm's length: the initial value of an extensible measurement.
    pub fn zero(algorithm: HashAlgorithm) -> Self {
        let len = match algorithm {
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha384 => 48,
            HashAlgorithm::Sha512 => 64,
        };
        Self { len, bytes: [0; MAX_LEN] }
    }

    /// Takes `bytes` as a hash value, if they are 32, 48 or 64.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        matches!(bytes.len(), 32 | 48 | 64).then(|| Self::copy_of(bytes))
    }

    /// The hash function whose values have this length.
    pub fn algorithm(&self) -> HashAlgorithm {
        match self.len {
            32 => HashAlgorithm::Sha256,
            48 => HashAlgorithm::Sha384,
            _ => HashAlgorithm::Sha512,
        }
    }

    /// The value, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// The value, followed by zeros up to 64 bytes, as the Realm Management Monitor keeps it.
    pub fn padded(&self) -> [u8; 64] {
        self.bytes
    }

    /// `bytes` are one of the three lengths.
    fn copy_of(bytes: &[u8]) -> Self {
        let mut digest = Self::zero(match bytes.len() {
            32 => HashAlgorithm::Sha256,
            48 => HashAlgorithm::Sha384,
            _ => HashAlgorithm::Sha512,
        });
        let len = bytes.len().min(MAX_LEN);
        if let (Some(to), Some(from)) = (digest.bytes.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        digest
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(self.as_bytes(), f)
    }
}

/// Writes a hash value in lower-case hexadecimal, whole and not byte by byte: an appraisal writes dozens.
pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 2 * MAX_LEN];
    for chunk in bytes.chunks(MAX_LEN) {
        let text = text.get_mut(..2 * chunk.len()).ok_or(fmt::Error)?;
        hex::encode_to_slice(chunk, text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Text that is not a hash value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a hash value is 64, 96 or 128 hexadecimal digits (SHA-256, SHA-384 or SHA-512); found {found} characters{}",
    if *.bad_digit { " that are not all hexadecimal digits" } else { "" })]
pub struct DigestTextError {
    found: usize,
    bad_digit: bool,
}

impl FromStr for Digest {
    type Err = DigestTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::decode(text).ok().and_then(|bytes| Self::from_slice(&bytes)).ok_or_else(|| DigestTextError {
            found: text.chars().count(),
            bad_digit: !text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_abc_as_fips_180_4_says() {
        for (algorithm, expected) in [
            (HashAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                HashAlgorithm::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                HashAlgorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            let digest = algorithm.digest(b"abc");
            assert_eq!(digest.to_string(), expected);
            assert_eq!(digest.as_bytes().len(), algorithm.len());
            assert_eq!(HashAlgorithm::from_name(algorithm.name()), Some(algorithm));
            assert_eq!(digest.padded()[algorithm.len()..], vec![0; 64 - algorithm.len()]);
        }
    }

    #[test]
    fn travels_through_json_as_hexadecimal() {
        let digest = HashAlgorithm::Sha384.digest(b"x");
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(text, format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert_eq!(serde_json::from_str::<Digest>(&text.to_uppercase()).unwrap(), digest);
    }

    #[test]
    fn refuses_text_that_is_no_hash_value() {
        for (text, bad_digit) in [
            ("", false),
            ("00", false),
            (&"0".repeat(63), false),
            (&"0".repeat(65), false),
            (&"0".repeat(130), false),
            (&"g".repeat(64), true),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(DigestTextError { found: text.len(), bad_digit }));
        }
    }

    #[test]
    fn values_of_different_length_differ_even_when_all_zero() {
        assert_ne!(Digest::zero(HashAlgorithm::Sha256), Digest::zero(HashAlgorithm::Sha512));
    }

    #[test]
    fn names_are_exact() {
        for name in ["SHA-256", "sha256", "sha-1", "sha-256\0", ""] {
            assert_eq!(HashAlgorithm::from_name(name), None, "{name}");
        }
    }
}
