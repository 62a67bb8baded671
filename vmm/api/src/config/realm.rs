//! Configuration of a Realm.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What makes the VM confidential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RealmConfig {
    /// Who runs the Realm.
    pub backend: RealmBackendName,
    /// Hash of the measurement registers.
    #[serde(default)]
    pub measurement_algorithm: HashName,
    /// Realm personalisation value in base64, at most 64 bytes; padded with zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personalization_value: Option<String>,
    /// Version of the RMM whose rules measure the launch.
    #[serde(default)]
    pub rmm: RmmName,
    /// The platform that a software Realm claims to run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformConfig>,
    /// A lie that a software Realm tells, to test verifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultName>,
}

/// Name of a Realm back-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RealmBackendName {
    /// A software RMM on plain KVM: function, not confidentiality.
    Soft,
}

/// Name of a measurement hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashName {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Version of the RMM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum RmmName {
    /// RMM 1.0, which measures the state of RAM.
    #[default]
    #[serde(rename = "1.0")]
    V1_0,
    /// RMM 2.0, which does not.
    #[serde(rename = "2.0")]
    V2_0,
}

impl fmt::Display for RmmName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V1_0 => "1.0",
            Self::V2_0 => "2.0",
        })
    }
}

/// A lie of a software Realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultName {
    /// Tokens answer another challenge.
    Challenge,
    /// The Realm token's signature is damaged.
    Signature,
}

/// The development platform of a software Realm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlatformConfig {
    /// Platform attestation key: ECDSA P-384 private key, PKCS#8 PEM.
    #[schema(value_type = String)]
    pub key: PathBuf,
    /// Instance identifier: 33 bytes in hex, the first of them 01; by default 01 and the SHA-256 of the public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Platform configuration in hex.
    #[serde(default)]
    pub config: String,
    /// Software components; by default this VMM itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<PlatformComponent>,
}

/// A software component of the development platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlatformComponent {
    /// Role of the component.
    pub component_type: String,
    /// SHA-256 of the component in hex.
    pub measurement: String,
    /// Version.
    pub version: String,
    /// SHA-256 of its signer's key in hex.
    pub signer_id: String,
}
