//! What is asked of a running VMM, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::VmConfig;

/// Answer to `vmm.ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmmPingResponse {
    /// Version and build.
    pub build_version: String,
    /// Version.
    pub version: String,
    /// Process of the VMM.
    pub pid: i64,
    /// Features that were chosen when it was built.
    pub features: Vec<String>,
}

/// Where a VM is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum VmState {
    /// Configured, not booted.
    Created,
    /// Its vCPUs run.
    Running,
    /// Shut down; it can be booted again.
    Shutdown,
    /// Its vCPUs stand still.
    Paused,
}

/// Answer to `vm.info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmInfo {
    /// What it is made of now, with the paths of pseudo-terminals filled in.
    pub config: VmConfig,
    /// Where it is in its life.
    pub state: VmState,
    /// Bytes of memory that the guest has, without the balloon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_actual_size: Option<u64>,
    /// Its devices by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub device_tree: BTreeMap<String, DeviceNode>,
}

/// A device of the VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceNode {
    /// Its name.
    pub id: String,
    /// Names of devices below it.
    #[serde(default)]
    pub children: Vec<String>,
    /// Its address on PCI, such as `0000:00:06.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_bdf: Option<String>,
}

/// Answer to a call that adds a device to a running VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PciDeviceInfo {
    /// Its name.
    pub id: String,
    /// Its address on PCI, such as `0000:00:06.0`.
    pub bdf: String,
}

/// Answer to `vm.counters`: counters by device and name.
pub type Counters = BTreeMap<String, BTreeMap<String, u64>>;

/// Body of `vm.resize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmResize {
    /// Number of vCPUs that the guest is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_vcpus: Option<u16>,
    /// Bytes of memory that the guest is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_ram: Option<u64>,
    /// Bytes that the guest is to give up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_balloon: Option<u64>,
}

/// Body of `vm.resize-disk`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmResizeDisk {
    /// Name of the disk.
    pub id: String,
    /// Bytes that it is to have.
    pub desired_size: u64,
}

/// Body of `vm.remove-device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmRemoveDevice {
    /// Name of the device.
    pub id: String,
}

/// Something that happened, as the event monitor tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventMessage {
    /// Time since the VMM started.
    pub timestamp: Timestamp,
    /// What it happened to: `vmm`, `vm`, `virtio-device` or `guest`.
    pub source: String,
    /// What happened.
    pub event: String,
    /// Details.
    pub properties: Option<BTreeMap<String, String>>,
}

/// Time since the VMM started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timestamp {
    /// Whole seconds.
    pub secs: u64,
    /// Nanoseconds besides.
    pub nanos: u32,
}
