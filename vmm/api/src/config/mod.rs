//! What a VM is made of.

mod console;
mod cpus;
mod device;
mod disk;
mod memory;
mod net;
mod rate_limit;
mod realm;
mod sandbox;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use console::{ConsoleConfig, ConsoleMode};
pub use cpus::{CpuAffinity, CpuTopology, CpusConfig};
pub use device::{BalloonConfig, FsConfig, PmemConfig, RngConfig, VsockConfig};
pub use disk::{DiskConfig, ImageType, LockGranularity, QueueAffinity};
pub use memory::{MemoryConfig, MemoryZoneConfig, NumaConfig, NumaDistance};
pub use net::{NetConfig, VhostMode};
pub use rate_limit::{RateLimitGroupConfig, RateLimiterConfig, TokenBucketConfig};
pub use realm::{
    FaultName, GuestMemfdName, HashName, PlatformComponent, PlatformConfig, RealmBackendName, RealmConfig,
    RmmName, UserDataName, VirtCcaConfig,
};
pub use sandbox::{LandlockConfig, RlimitsConfig, SandboxConfig};

/// A whole VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// What the VM boots.
    pub payload: PayloadConfig,
    /// Its processors.
    #[serde(default)]
    pub cpus: CpusConfig,
    /// Its memory.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// Its NUMA nodes; without them the guest sees one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa: Vec<NumaConfig>,
    /// Rate limits that several disks share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limit_groups: Vec<RateLimitGroupConfig>,
    /// Its disks, in the order in which the guest finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskConfig>,
    /// Its network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<NetConfig>,
    /// Its source of entropy.
    #[serde(default)]
    pub rng: RngConfig,
    /// The device through which memory is taken from the guest and given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<BalloonConfig>,
    /// Directories of the host that the guest sees, each served by a virtiofsd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fs: Vec<FsConfig>,
    /// Files that the guest sees as persistent memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pmem: Vec<PmemConfig>,
    /// The PL011 serial port.
    #[serde(default = "ConsoleConfig::null")]
    pub serial: ConsoleConfig,
    /// The virtio console.
    #[serde(default = "ConsoleConfig::off")]
    pub console: ConsoleConfig,
    /// The socket between guest and host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<VsockConfig>,
    /// Whether there is a watchdog, which resets a guest that has stopped to feed it.
    #[serde(default)]
    pub watchdog: bool,
    /// Whether the VMM may open only what the configuration names.
    #[serde(default)]
    pub landlock_enable: bool,
    /// What the VMM may open besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub landlock_rules: Vec<LandlockConfig>,
    /// What makes the VM confidential; without it the VM is an ordinary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<RealmConfig>,
    /// What keeps the VMM itself in bounds.
    #[serde(default)]
    pub sandbox: SandboxConfig,
}

impl VmConfig {
    /// A VM that boots `kernel`, with a default for everything else.
    #[must_use]
    pub fn booting(kernel: PathBuf) -> Self {
        Self {
            payload: PayloadConfig { kernel: Some(kernel), ..PayloadConfig::default() },
            cpus: CpusConfig::default(),
            memory: MemoryConfig::default(),
            numa: Vec::new(),
            rate_limit_groups: Vec::new(),
            disks: Vec::new(),
            net: Vec::new(),
            rng: RngConfig::default(),
            balloon: None,
            fs: Vec::new(),
            pmem: Vec::new(),
            serial: ConsoleConfig::null(),
            console: ConsoleConfig::off(),
            vsock: None,
            watchdog: false,
            landlock_enable: false,
            landlock_rules: Vec::new(),
            realm: None,
            sandbox: SandboxConfig::default(),
        }
    }
}

/// What the VM boots: a kernel or firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadConfig {
    /// Kernel: arm64 `Image`, its gzip, or an EFI zboot image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub kernel: Option<PathBuf>,
    /// Firmware, which finds what to boot on the disks; virtCCA only so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub firmware: Option<PathBuf>,
    /// Initial RAM file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub initramfs: Option<PathBuf>,
    /// Kernel command line.
    #[serde(default)]
    pub cmdline: String,
}

/// For fields that are on unless somebody turns them off.
const fn on() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_configuration_is_a_kernel() {
        let config: VmConfig = serde_json::from_str(r#"{"payload":{"kernel":"/k"}}"#).unwrap();
        assert_eq!(config, VmConfig::booting("/k".into()));
    }

    #[test]
    fn every_level_refuses_what_it_does_not_know_and_names_it() {
        for json in [
            r#"{"payload":{"kernel":"/k"},"surprise":1}"#,
            r#"{"payload":{"kernel":"/k","surprise":1}}"#,
            r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","surprise":1}]}"#,
            r#"{"payload":{"kernel":"/k"},"net":[{"surprise":1}]}"#,
            r#"{"payload":{"kernel":"/k"},"memory":{"zones":[{"id":"a","size":1,"surprise":1}]}}"#,
            r#"{"payload":{"kernel":"/k"},"sandbox":{"rlimits":{"surprise":1}}}"#,
        ] {
            let error = serde_json::from_str::<VmConfig>(json).unwrap_err().to_string();
            assert!(error.contains("surprise"), "{json}: {error}");
        }
    }
}
