//! Rules for the software components of a platform.

use std::collections::BTreeMap;

use evidence::hash::Digest;
use serde::{Deserialize, Serialize};

use super::version::Version;
use super::virtcca::HexBytes;

/// The set of components that a platform must and may have, by type. Their order in the token means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentRules {
    /// The components that are expected, by type, such as `tf_bl2`.
    pub expected: BTreeMap<String, ComponentRule>,
    /// Accept components of other types.
    #[serde(default)]
    pub allow_others: bool,
}

/// What a policy demands of components of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComponentRule {
    /// The platform may be without it.
    pub optional: bool,
    /// Measurements of which one must be matched exactly; absent accepts any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurements: Option<Vec<Digest>>,
    /// The oldest version that is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_version: Option<Version>,
    /// Signers of which one must have signed it, as the token names them; absent accepts any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signers: Option<Vec<HexBytes>>,
    /// Accept a measurement that measures nothing: all zero, or the hash of nothing but zeros.
    pub allow_degenerate: bool,
}
