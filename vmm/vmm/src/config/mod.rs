//! What a VM is made of: the configuration, from JSON or from the command line.
//!
//! Names are those of Cloud Hypervisor's `VmConfig` where the same thing is meant; `realm` is our own. A field that
//! is not known is an error, never ignored.

mod flags;
mod options;
mod realm;
mod validate;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use flags::VmFlags;
pub use options::OptionsError;
pub use realm::{
    FaultName, HashName, PlatformComponent, PlatformConfig, RealmBackendName, RealmConfig, RmmName,
};
pub use validate::ConfigError;

/// A whole VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Its disks, in the order in which the guest finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskConfig>,
    /// Its source of entropy.
    #[serde(default)]
    pub rng: RngConfig,
    /// The PL011 serial port.
    #[serde(default = "ConsoleConfig::null")]
    pub serial: ConsoleConfig,
    /// The virtio console.
    #[serde(default = "ConsoleConfig::off")]
    pub console: ConsoleConfig,
    /// The socket between guest and host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<VsockConfig>,
    /// What makes the VM confidential; without it the VM is an ordinary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<RealmConfig>,
}

/// What the VM boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadConfig {
    /// Kernel: arm64 `Image`, its gzip, or an EFI zboot image.
    pub kernel: PathBuf,
    /// Initial RAM file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs: Option<PathBuf>,
    /// Kernel command line.
    #[serde(default)]
    pub cmdline: String,
}

/// Processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpusConfig {
    /// Number of vCPUs.
    pub boot_vcpus: u16,
}

impl Default for CpusConfig {
    fn default() -> Self {
        Self { boot_vcpus: 1 }
    }
}

/// Memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Size in bytes, a multiple of 2 MiB.
    pub size: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { size: 512 << 20 }
    }
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Raw image or block device.
    pub path: PathBuf,
    /// Whether the guest may only read.
    #[serde(default)]
    pub readonly: bool,
    /// Serial number, at most 20 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// Source of entropy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngConfig {
    /// File that yields random bytes.
    pub src: PathBuf,
}

impl Default for RngConfig {
    fn default() -> Self {
        Self { src: "/dev/urandom".into() }
    }
}

/// Where a console's bytes go and come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Kind of the other end.
    pub mode: ConsoleMode,
    /// File that takes the output, with [`ConsoleMode::File`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl ConsoleConfig {
    fn null() -> Self {
        Self { mode: ConsoleMode::Null, file: None }
    }

    fn off() -> Self {
        Self { mode: ConsoleMode::Off, file: None }
    }
}

/// Kind of a console's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsoleMode {
    /// There is no such device.
    Off,
    /// Output is dropped, input never comes.
    Null,
    /// Standard output and input of the VMM.
    Tty,
    /// Output goes to a file.
    File,
}

/// The socket between guest and host, in the form that Firecracker and Cloud Hypervisor share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// Context identifier of the guest, at least 3.
    pub cid: u32,
    /// Unix socket for connections to the guest; connections of the guest go to `<socket>_<port>`.
    pub socket: PathBuf,
}
