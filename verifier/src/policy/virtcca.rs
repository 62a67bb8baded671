//! Rules for evidence of virtCCA.

use evidence::cca::LifecycleState;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::components::ComponentRules;

/// What a policy demands of virtCCA evidence beyond signatures, freshness and reference values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VirtccaRules {
    /// Accept evidence without a Platform Token, whose CVM key is the device certificate's own. Off by default: otherwise
    /// an attester could leave the Platform Token out, and with it everything that this policy says about the platform.
    pub allow_legacy: bool,
    /// Demand a certificate revocation list of every issuer of the chain. Without it, lists are heeded where the bundle has
    /// them.
    pub require_crl: bool,
    /// Platforms by implementation id, 32 bytes each; absent accepts any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implementation_ids: Option<Vec<HexBytes>>,
    /// Security lifecycle states that are accepted; `secured` alone by default. Platforms in the field have been seen to
    /// report 0x2000, `rot_provisioning`.
    pub lifecycles: Vec<LifecycleState>,
    /// The firmware that is accepted; absent accepts any that is not degenerate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<ComponentRules>,
}

impl Default for VirtccaRules {
    fn default() -> Self {
        Self {
            allow_legacy: false,
            require_crl: false,
            implementation_ids: None,
            lifecycles: vec![LifecycleState::Secured],
            components: None,
        }
    }
}

/// Bytes of any length, in JSON as hexadecimal text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(&text).map(Self).map_err(|_| de::Error::custom("expected bytes in hexadecimal"))
    }
}
