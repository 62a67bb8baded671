//! Processors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CpusConfig {
    /// Number of vCPUs at boot.
    pub boot_vcpus: u16,
    /// Number of vCPUs that the VM may grow to; by default the number at boot. The guest sees all of them from the
    /// start, and can turn on as many as it has been given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_vcpus: Option<u16>,
    /// How the guest sees them grouped; by default one package of single-threaded cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<CpuTopology>,
    /// Processors of the host on which vCPUs may run; a vCPU that is not named runs anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<CpuAffinity>,
}

impl CpusConfig {
    /// Number of vCPUs that the VM can ever have.
    #[must_use]
    pub fn max(&self) -> u16 {
        self.max_vcpus.unwrap_or(self.boot_vcpus)
    }
}

impl Default for CpusConfig {
    fn default() -> Self {
        Self { boot_vcpus: 1, max_vcpus: None, topology: None, affinity: Vec::new() }
    }
}

/// Groups of vCPUs. The product is the number of vCPUs that the VM can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CpuTopology {
    /// Threads of each core.
    pub threads_per_core: u16,
    /// Cores of each die.
    pub cores_per_die: u16,
    /// Dies of each package; 1 on arm64.
    pub dies_per_package: u16,
    /// Packages.
    pub packages: u16,
}

/// Where one vCPU may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CpuAffinity {
    /// Number of the vCPU.
    pub vcpu: u16,
    /// Numbers of the host's processors.
    pub host_cpus: Vec<u32>,
}
