//! Memory, its zones, and NUMA nodes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::on;

/// Memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Size in bytes, a multiple of 2 MiB; 0 when `zones` say it.
    #[serde(default)]
    pub size: u64,
    /// Whether the host may merge equal pages (KSM).
    #[serde(default)]
    pub mergeable: bool,
    /// Whether the memory is a shared mapping, which device servers in other processes need.
    #[serde(default)]
    pub shared: bool,
    /// Whether the memory is made of huge pages.
    #[serde(default)]
    pub hugepages: bool,
    /// Size of a huge page in bytes; by default the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepage_size: Option<u64>,
    /// Whether all pages are allocated before the VM starts.
    #[serde(default)]
    pub prefault: bool,
    /// Whether the host sets swap space aside for all of it.
    #[serde(default)]
    pub reserve: bool,
    /// Whether the host may use transparent huge pages.
    #[serde(default = "on")]
    pub thp: bool,
    /// Parts of the memory that are backed differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<MemoryZoneConfig>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            size: 512 << 20,
            mergeable: false,
            shared: false,
            hugepages: false,
            hugepage_size: None,
            prefault: false,
            reserve: false,
            thp: true,
            zones: Vec::new(),
        }
    }
}

impl MemoryConfig {
    /// Size of all memory in bytes, whether it is said for all or for each zone.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.zones.iter().fold(self.size, |total, zone| total.saturating_add(zone.size))
    }
}

/// A part of the memory with a backing of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryZoneConfig {
    /// Name by which NUMA nodes refer to it.
    pub id: String,
    /// Size in bytes, a multiple of 2 MiB.
    pub size: u64,
    /// File that backs it, or directory in which an unnamed one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub file: Option<PathBuf>,
    /// Whether the host may merge equal pages (KSM).
    #[serde(default)]
    pub mergeable: bool,
    /// Whether the zone is a shared mapping.
    #[serde(default)]
    pub shared: bool,
    /// Whether the zone is made of huge pages.
    #[serde(default)]
    pub hugepages: bool,
    /// Size of a huge page in bytes; by default the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepage_size: Option<u64>,
    /// NUMA node of the host whose memory is used, and no other's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_numa_node: Option<u32>,
    /// Whether all pages are allocated before the VM starts.
    #[serde(default)]
    pub prefault: bool,
    /// Whether the host sets swap space aside for all of it.
    #[serde(default)]
    pub reserve: bool,
}

/// A NUMA node that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NumaConfig {
    /// Number of the node.
    pub guest_numa_id: u32,
    /// Its vCPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// Distances to other nodes; 20 where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<NumaDistance>,
    /// Its memory zones. A zone belongs to one node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory_zones: Vec<String>,
}

/// Distance to another node, where 10 is the distance of a node to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NumaDistance {
    /// Number of the other node.
    pub destination: u32,
    /// Distance, 11 to 255.
    pub distance: u8,
}
