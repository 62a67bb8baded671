//! Network interfaces.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{RateLimiterConfig, on};

/// A network interface: a tap device of the host, or a server in another process.
///
/// Descriptors of open tap devices come with the request (`SCM_RIGHTS`) or by `fd=` on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name; by default `_net` and a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the tap device; it is created when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// Open queues of a tap device, one for each pair. In JSON they are numbers that mean nothing: the descriptors come
    /// with the request.
    #[serde(skip)]
    pub fds: Vec<i32>,
    /// IPv4 address that the tap device gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ip: Option<Ipv4Addr>,
    /// Its network mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub mask: Option<Ipv4Addr>,
    /// Hardware address of the guest; by default a random one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Hardware address that the tap device gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mac: Option<String>,
    /// Largest packet in bytes, from 1280 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Number of queues, two for each pair.
    #[serde(default = "NetConfig::default_num_queues")]
    pub num_queues: u16,
    /// Size of each queue, a power of two.
    #[serde(default = "NetConfig::default_queue_size")]
    pub queue_size: u16,
    /// Whether the guest may leave checksums to the host.
    #[serde(default = "on")]
    pub offload_csum: bool,
    /// Whether the guest may leave TCP segmentation to the host.
    #[serde(default = "on")]
    pub offload_tso: bool,
    /// Whether the guest may leave UDP fragmentation to the host.
    #[serde(default = "on")]
    pub offload_ufo: bool,
    /// Limits of this interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limiter_config: Option<RateLimiterConfig>,
    /// Whether a server in another process has the interface.
    #[serde(default)]
    pub vhost_user: bool,
    /// Unix socket of that server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub vhost_socket: Option<PathBuf>,
    /// Which side listens on the socket.
    #[serde(default)]
    pub vhost_mode: VhostMode,
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

impl NetConfig {
    const fn default_num_queues() -> u16 {
        2
    }

    const fn default_queue_size() -> u16 {
        256
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            id: None,
            tap: None,
            fds: Vec::new(),
            ip: None,
            mask: None,
            mac: None,
            host_mac: None,
            mtu: None,
            num_queues: Self::default_num_queues(),
            queue_size: Self::default_queue_size(),
            offload_csum: true,
            offload_tso: true,
            offload_ufo: true,
            rate_limiter_config: None,
            vhost_user: false,
            vhost_socket: None,
            vhost_mode: VhostMode::default(),
            iommu: false,
            pci_segment: 0,
            pci_device_id: None,
        }
    }
}

/// Side of a vhost-user connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum VhostMode {
    /// The VMM connects.
    #[default]
    Client,
    /// The VMM listens.
    Server,
}
