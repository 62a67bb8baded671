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
    /// Version of the RMM whose rules measure the launch: by default 1.0 for a software Realm and for measuring without
    /// one, and what the host has for Arm CCA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmm: Option<RmmName>,
    /// Width of the address space in bits, which is measured; Arm CCA only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipa_bits: Option<u8>,
    /// What backs private and shared memory; Arm CCA only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_memfd: Option<GuestMemfdName>,
    /// The platform that a software Realm claims to run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformConfig>,
    /// A lie that a software Realm tells, to test verifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultName>,
    /// What only virtCCA has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtcca: Option<VirtCcaConfig>,
}

impl RealmConfig {
    /// A Realm with everything by default.
    #[must_use]
    pub const fn of(backend: RealmBackendName) -> Self {
        Self {
            backend,
            measurement_algorithm: HashName::Sha256,
            personalization_value: None,
            rmm: None,
            ipa_bits: None,
            guest_memfd: None,
            platform: None,
            fault: None,
            virtcca: None,
        }
    }
}

/// What backs the memory of a Realm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuestMemfdName {
    /// Two memories: pages move from one to the other.
    #[default]
    Separate,
    /// One memory, whose pages are converted where they are.
    InPlace,
}

/// A confidential VM of virtCCA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtCcaConfig {
    /// SVE vector length in bits, a multiple of 128; none without SVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sve_vector_length: Option<u16>,
    /// PMU counters, below 32; none without a PMU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pmu_counters: Option<u8>,
    /// Slots of 2 KiB of the guest kernel's bounce buffer, through which all I/O goes.
    #[serde(default = "VirtCcaConfig::default_swiotlb")]
    pub swiotlb: u32,
    /// Where memory starts: 1 GiB, or 3 GiB for older kernels.
    #[serde(default = "VirtCcaConfig::default_ram_base")]
    pub ram_base: u64,
    /// Which structure the host's kernel takes.
    #[serde(default)]
    pub user_data: UserDataName,
}

impl VirtCcaConfig {
    const fn default_swiotlb() -> u32 {
        65536
    }

    const fn default_ram_base() -> u64 {
        1 << 30
    }
}

impl Default for VirtCcaConfig {
    fn default() -> Self {
        Self {
            sve_vector_length: None,
            pmu_counters: None,
            swiotlb: Self::default_swiotlb(),
            ram_base: Self::default_ram_base(),
            user_data: UserDataName::default(),
        }
    }
}

/// Structure that tells openEuler's kernel of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserDataName {
    /// Of kernels that boot kernels directly only.
    Legacy,
    /// Of kernels that boot firmware, too.
    #[default]
    Uefi,
}

/// Name of a Realm back-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RealmBackendName {
    /// A software RMM on plain KVM: function, not confidentiality.
    Soft,
    /// Arm CCA.
    Cca,
    /// Huawei virtCCA.
    VirtCca,
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
#[serde(rename_all = "snake_case")]
pub enum FaultName {
    /// Tokens answer another challenge.
    Challenge,
    /// The Realm token's signature is damaged.
    Signature,
    /// Tokens of virtCCA come without the Platform Token. Only with a P-521 key.
    NoPlatformToken,
}

/// The development platform of a software Realm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlatformConfig {
    /// Platform attestation key: ECDSA private key, PKCS#8 PEM. With a P-384 key the tokens are those of Arm CCA, with a
    /// P-521 key those of virtCCA.
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
