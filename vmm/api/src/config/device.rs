//! Devices that take few words to describe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Source of entropy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RngConfig {
    /// Name; by default `_rng`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// File that yields random bytes.
    #[schema(value_type = String)]
    pub src: PathBuf,
    /// Whether the device is behind an IOMMU; only false is supported.
    #[serde(default)]
    pub iommu: bool,
    /// PCI segment; only 0 is supported.
    #[serde(default)]
    pub pci_segment: u16,
    /// Slot on the PCI bus; by default the lowest free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_device_id: Option<u8>,
}

impl Default for RngConfig {
    fn default() -> Self {
        Self { id: None, src: "/dev/urandom".into(), iommu: false, pci_segment: 0, pci_device_id: None }
    }
}

/// The device through which memory is taken from the guest and given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BalloonConfig {
    /// Name; by default `_balloon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Bytes that the guest is to give up.
    pub size: u64,
    /// Whether the guest may take memory back before it kills a process for want of it.
    #[serde(default)]
    pub deflate_on_oom: bool,
    /// Whether the guest tells which pages it does not use, so that the host can take them.
    #[serde(default)]
    pub free_page_reporting: bool,
    /// PCI segment; only 0 is supported.
    #[serde(default)]
    pub pci_segment: u16,
    /// Slot on the PCI bus; by default the lowest free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_device_id: Option<u8>,
}

/// A directory of the host that the guest sees, served by a virtiofsd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FsConfig {
    /// Name; by default `_fs` and a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name by which the guest mounts it, at most 36 bytes.
    pub tag: String,
    /// Unix socket of the server.
    #[schema(value_type = String)]
    pub socket: PathBuf,
    /// Number of request queues.
    #[serde(default = "FsConfig::default_num_queues")]
    pub num_queues: u16,
    /// Size of each queue, a power of two.
    #[serde(default = "FsConfig::default_queue_size")]
    pub queue_size: u16,
    /// PCI segment; only 0 is supported.
    #[serde(default)]
    pub pci_segment: u16,
    /// Slot on the PCI bus; by default the lowest free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_device_id: Option<u8>,
}

impl FsConfig {
    const fn default_num_queues() -> u16 {
        1
    }

    const fn default_queue_size() -> u16 {
        1024
    }
}

/// A file that the guest sees as persistent memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PmemConfig {
    /// Name; by default `_pmem` and a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The file.
    #[schema(value_type = String)]
    pub file: PathBuf,
    /// Bytes of it, a multiple of 2 MiB; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether what the guest writes stays in memory and never reaches the file.
    #[serde(default)]
    pub discard_writes: bool,
    /// Whether the device is behind an IOMMU; only false is supported.
    #[serde(default)]
    pub iommu: bool,
    /// PCI segment; only 0 is supported.
    #[serde(default)]
    pub pci_segment: u16,
    /// Slot on the PCI bus; by default the lowest free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_device_id: Option<u8>,
}

/// The socket between guest and host, in the form that Firecracker and Cloud Hypervisor share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// Name; by default `_vsock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Context identifier of the guest, at least 3.
    pub cid: u32,
    /// Unix socket for connections to the guest; connections of the guest go to `<socket>_<port>`.
    #[schema(value_type = String)]
    pub socket: PathBuf,
    /// Whether the device is behind an IOMMU; only false is supported.
    #[serde(default)]
    pub iommu: bool,
    /// PCI segment; only 0 is supported.
    #[serde(default)]
    pub pci_segment: u16,
    /// Slot on the PCI bus; by default the lowest free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_device_id: Option<u8>,
}
