//! The grammar of names that operators and guests give: nothing that means something to a file system, a URL or a shell.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Without this bound a name could fill a log line or an index page.
const MAX_NAME: usize = 64;
/// Without this bound a resource path could be as long as a request body.
const MAX_SEGMENTS: usize = 8;
/// secGear's vendor for requests that name none.
const DEFAULT_VENDOR: &str = "oeas";

/// The text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a single name.
    #[error(
        "a name is 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ -, begins with a letter or digit, and has no \"..\""
    )]
    Name,
    /// Not a path of names.
    #[error("a resource path is 1 to {MAX_SEGMENTS} names joined by /; {0}")]
    Path(Box<NameError>),
    /// Not vendor/path.
    #[error("a resource is vendor/path")]
    Resource,
}

/// A single name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let valid = text.len() <= MAX_NAME
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !text.contains("..");
        if valid { Ok(Self(text.to_owned())) } else { Err(NameError::Name) }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a resource lives: a vendor and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceName {
    /// Who owns it.
    pub vendor: Name,
    path: String,
}

impl ResourceName {
    /// Checks both parts; an absent or empty vendor is `oeas`.
    ///
    /// # Errors
    /// [`NameError`] says what a name looks like.
    pub fn new(vendor: Option<&str>, path: &str) -> Result<Self, NameError> {
        let vendor = match vendor {
            None | Some("") => DEFAULT_VENDOR,
            Some(vendor) => vendor,
        };
        let path_error = |error| NameError::Path(Box::new(error));
        if path.split('/').count() > MAX_SEGMENTS {
            return Err(path_error(NameError::Name));
        }
        for segment in path.split('/') {
            Name::from_str(segment).map_err(path_error)?;
        }
        Ok(Self { vendor: vendor.parse()?, path: path.to_owned() })
    }

    /// The path within the vendor.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for ResourceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (vendor, path) =
            text.split_once('/').filter(|(vendor, _)| !vendor.is_empty()).ok_or(NameError::Resource)?;
        Self::new(Some(vendor), path)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_names_only() {
        for good in ["a", "demo-platform", "default_cca.rego", "0x", &"n".repeat(64)] {
            assert!(Name::from_str(good).is_ok(), "{good}");
        }
        for bad in
            ["", ".", "..", ".a", "a..b", "-a", "a/b", "/etc", "a\0", "a b", "é", "a\n", &"n".repeat(65)]
        {
            assert_eq!(Name::from_str(bad), Err(NameError::Name), "{bad:?}");
        }
    }

    #[test]
    fn takes_resource_paths_without_tricks() {
        assert_eq!("acme/disk/key".parse::<ResourceName>().unwrap().path(), "disk/key");
        assert_eq!(ResourceName::new(None, "key").unwrap().to_string(), "oeas/key");
        for bad in ["acme", "acme/", "/key", "acme/../key", "acme//key", "acme/key/", "a/1/2/3/4/5/6/7/8/9"] {
            assert!(bad.parse::<ResourceName>().is_err(), "{bad:?}");
        }
    }
}
