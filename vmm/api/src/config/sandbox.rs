//! What keeps the VMM itself in bounds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file or directory that the VMM may open besides those that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LandlockConfig {
    /// The file or directory.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// `r` to read, `w` to write, `rw` for both.
    pub access: String,
}

/// Bounds of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// Runs without system call filters and with the privileges of its caller. For debugging only. What the other fields
    /// ask for is set nevertheless.
    #[serde(default)]
    pub unhardened: bool,
    /// Whether the process gets a user namespace of its own.
    #[serde(default)]
    pub user_namespace: bool,
    /// Whether the process gets a mount namespace of its own.
    #[serde(default)]
    pub mount_namespace: bool,
    /// Whether the process gets a network namespace of its own. Tap devices are opened before, outside of it.
    #[serde(default)]
    pub network_namespace: bool,
    /// Control group (version 2) that the process moves to, below the root of that file system; created when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Most memory of that control group in bytes, that of the guest included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// Most processor time of that control group, in percent of one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// Limits of the process.
    #[serde(default)]
    pub rlimits: RlimitsConfig,
}

/// Limits of the process; what is absent stays as the caller set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RlimitsConfig {
    /// Open files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nofile: Option<u64>,
    /// Largest file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsize: Option<u64>,
    /// Locked memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memlock: Option<u64>,
}
