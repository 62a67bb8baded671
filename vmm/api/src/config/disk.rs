//! Disks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{RateLimiterConfig, on};

/// A disk: an image or block device (`path`), or a server in another process (`vhost_user` and `vhost_socket`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Name; by default `_disk` and a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Image or block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub path: Option<PathBuf>,
    /// Format of the image; by default it is found out, once, when the disk is opened.
    #[serde(default)]
    pub image_type: ImageType,
    /// Whether the guest may only read.
    #[serde(default)]
    pub readonly: bool,
    /// Whether the host's page cache is passed by.
    #[serde(default)]
    pub direct: bool,
    /// Number of queues, at most the number of vCPUs.
    #[serde(default = "DiskConfig::default_num_queues")]
    pub num_queues: u16,
    /// Size of each queue, a power of two.
    #[serde(default = "DiskConfig::default_queue_size")]
    pub queue_size: u16,
    /// Processors of the host on which the threads of queues may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue_affinity: Vec<QueueAffinity>,
    /// Serial number, at most 20 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Whether a qcow2 image may name other files that it builds on.
    #[serde(default)]
    pub backing_files: bool,
    /// Whether what the guest discards is given back to the host.
    #[serde(default = "on")]
    pub sparse: bool,
    /// How the image is locked against use by others.
    #[serde(default)]
    pub lock_granularity: LockGranularity,
    /// Uses plain system calls where io_uring would be used.
    #[serde(default)]
    pub disable_io_uring: bool,
    /// Limits of this disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limiter_config: Option<RateLimiterConfig>,
    /// Name of the limits that it shares with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_group: Option<String>,
    /// Whether a server in another process has the disk.
    #[serde(default)]
    pub vhost_user: bool,
    /// Unix socket of that server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub vhost_socket: Option<PathBuf>,
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

impl DiskConfig {
    const fn default_num_queues() -> u16 {
        1
    }

    const fn default_queue_size() -> u16 {
        128
    }
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            id: None,
            path: None,
            image_type: ImageType::default(),
            readonly: false,
            direct: false,
            num_queues: Self::default_num_queues(),
            queue_size: Self::default_queue_size(),
            queue_affinity: Vec::new(),
            serial: None,
            backing_files: false,
            sparse: true,
            lock_granularity: LockGranularity::default(),
            disable_io_uring: false,
            rate_limiter_config: None,
            rate_limit_group: None,
            vhost_user: false,
            vhost_socket: None,
            iommu: false,
            pci_segment: 0,
            pci_device_id: None,
        }
    }
}

/// Format of a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ImageType {
    /// To be found out. An image that looks raw must not turn into another one later, so the guest then cannot write
    /// what marks a qcow2 image to its first sector.
    #[default]
    Unknown,
    /// The bytes of the disk, nothing else.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

/// How a disk image is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum LockGranularity {
    /// The range of its bytes.
    ByteRange,
    /// The whole file, whatever its size becomes.
    #[default]
    Full,
}

/// Where the thread of one queue may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueAffinity {
    /// Number of the queue.
    pub queue_index: u16,
    /// Numbers of the host's processors.
    pub host_cpus: Vec<u32>,
}
