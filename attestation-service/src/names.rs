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
    /// Not vendor/id.rego.
    #[error(
        "a resource policy is vendor/id.rego, and vendor and id are 1 to {MAX_NAME} characters of A-Z a-z 0-9 _ that do \
         not begin with a digit"
    )]
    Policy,
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

/// The name of a resource policy: `vendor/id.rego`. Its Rego package is `vendor.id`, so both are identifiers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyName {
    vendor: String,
    id: String,
}

impl PolicyName {
    /// Checks both parts; `id` ends in `.rego`, and an absent or empty vendor is `oeas`.
    ///
    /// # Errors
    /// [`NameError::Policy`].
    pub fn new(vendor: Option<&str>, id: &str) -> Result<Self, NameError> {
        let vendor = match vendor {
            None | Some("") => DEFAULT_VENDOR,
            Some(vendor) => vendor,
        };
        let id = id.strip_suffix(".rego").ok_or(NameError::Policy)?;
        let identifier = |text: &str| {
            text.len() <= MAX_NAME
                && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !identifier(vendor) || !identifier(id) {
            return Err(NameError::Policy);
        }
        Ok(Self { vendor: vendor.to_owned(), id: id.to_owned() })
    }

    /// Whose it is.
    #[must_use]
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// Its name within the vendor, with `.rego`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.rego", self.id)
    }

    /// The rule that decides.
    #[must_use]
    pub fn entry_point(&self) -> String {
        format!("data.{}.{}.allow", self.vendor, self.id)
    }

    /// Whether it may be bound to resources of `vendor`: a vendor's own policies, and those of `oeas`.
    #[must_use]
    pub fn may_be_bound_for(&self, vendor: &Name) -> bool {
        self.vendor == DEFAULT_VENDOR || self.vendor == vendor.as_str()
    }
}

impl FromStr for PolicyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (vendor, id) =
            text.split_once('/').filter(|(vendor, _)| !vendor.is_empty()).ok_or(NameError::Policy)?;
        Self::new(Some(vendor), id)
    }
}

impl TryFrom<String> for PolicyName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PolicyName> for String {
    fn from(name: PolicyName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.rego", self.vendor, self.id)
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

    #[test]
    fn takes_policy_names_that_are_rego_packages() {
        let name: PolicyName = "acme/disk_1.rego".parse().unwrap();
        assert_eq!((name.vendor(), name.id().as_str()), ("acme", "disk_1.rego"));
        assert_eq!(name.entry_point(), "data.acme.disk_1.allow");
        assert_eq!(PolicyName::new(None, "virtcca.rego").unwrap().to_string(), "oeas/virtcca.rego");
        for bad in [
            "acme",
            "acme/x",
            "/x.rego",
            "acme/.rego",
            "acme/../x.rego",
            "a.b/x.rego",
            "acme/x.y.rego",
            "acme/1x.rego",
            "acme/x-y.rego",
            "acme/x\0.rego",
            "acme/x[0].rego",
            "acme/x.allow;y.rego",
            "../acme/x.rego",
            "acme/x.REGO",
        ] {
            assert_eq!(bad.parse::<PolicyName>(), Err(NameError::Policy), "{bad:?}");
        }
        assert!(format!("acme/{}.rego", "x".repeat(65)).parse::<PolicyName>().is_err());
    }

    #[test]
    fn a_policy_is_for_its_own_vendor_or_for_all() {
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let own: PolicyName = "acme/x.rego".parse().unwrap();
        assert!(own.may_be_bound_for(&acme) && !own.may_be_bound_for(&other));
        let common: PolicyName = "oeas/x.rego".parse().unwrap();
        assert!(common.may_be_bound_for(&acme) && common.may_be_bound_for(&other));
    }
}
