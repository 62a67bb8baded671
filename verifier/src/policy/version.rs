//! Versions of platform software, comparable.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most numbers in a version. Without a bound a token could make us compare as many as fit in it.
const MAX_PARTS: usize = 8;

/// A version: one to eight decimal numbers with dots between them, such as `21.23.0`.
///
/// Numbers are compared from the left; those that are not there count as 0. So `1.6` = `1.6.0`, `1.6` < `1.10`, and
/// `21.23` < `21.23.0.1`. Anything else - letters, signs, suffixes such as `-rc1` - is no version: it cannot be compared,
/// and where a policy sets a minimum it is refused.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    parts: Vec<u64>,
}

/// Text that is no comparable version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version that can be compared is 1 to {MAX_PARTS} decimal numbers with dots between them")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut parts = Vec::new();
        for part in text.split('.') {
            // `u64::from_str` would take a plus sign.
            if parts.len() == MAX_PARTS || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(VersionError);
            }
            parts.push(part.parse().map_err(|_| VersionError)?);
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let part = |version: &Self, index| version.parts.get(index).copied().unwrap_or(0);
        (0..MAX_PARTS)
            .map(|index| part(self, index).cmp(&part(other, index)))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_absent_ones_are_zero() {
        for (low, high) in
            [("1.6", "1.10"), ("1.9", "2"), ("21.23", "21.23.0.1"), ("0", "0.0.0.0.0.0.0.1"), ("09", "10")]
        {
            assert!(version(low) < version(high), "{low} < {high}");
        }
        for (a, b) in [("1.6", "1.6.0"), ("01.6", "1.06"), ("0", "0.0")] {
            assert_eq!(version(a), version(b), "{a} = {b}");
        }
    }

    #[test]
    fn whatever_else_is_no_version() {
        for text in [
            "",
            ".",
            "1.",
            ".1",
            "1..2",
            "+1",
            "-1",
            "1.6-rc1",
            "v1",
            "1 ",
            "1.2.3.4.5.6.7.8.9",
            "18446744073709551616",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
