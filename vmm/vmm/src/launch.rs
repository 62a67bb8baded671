//! From a configuration to a launch plan, which is measured offline or put into a VM: the same bytes either way.

use std::path::{Path, PathBuf};

use evidence::hash::Digest;
use machine::fdt::Seeds;
use machine::kernel::{Kernel, KernelError};
use machine::launch::{LaunchError, LaunchLog, LaunchPlan};
use machine::layout::{Layout, LayoutError, RAM_BASE, VmKind};
use realm::LaunchParameters;
use serde::Serialize;
use thiserror::Error;

use crate::{memory, realm_backend};
use api::VmConfig;
use api::config::{RealmBackendName, RealmConfig, RmmName};

/// Width of an ordinary VM's address space in bits: what every arm64 KVM host can do.
const PLAIN_IPA_BITS: u8 = 40;

/// A launch cannot be prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// A file of the payload cannot be read.
    #[error("{field}: {path} cannot be read")]
    Read {
        /// Field of the configuration.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The board cannot have this shape.
    #[error("the board cannot have this shape")]
    Layout(#[from] LayoutError),
    /// The kernel cannot be booted.
    #[error("payload.kernel: {path} cannot be booted")]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// The parts do not fit together.
    #[error("the launch cannot be laid out")]
    Plan(#[from] LaunchError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The plan cannot be measured.
    #[error("the launch cannot be measured")]
    Measure(#[from] realm::Error),
    /// Only Realms have a launch measurement.
    #[error("there is nothing to measure: the VM is not a Realm (--realm, or `realm` in the configuration)")]
    NotARealm,
}

/// A board and what lies in its memory at the first instruction.
#[derive(Debug)]
pub struct Prepared {
    /// The board.
    pub layout: Layout,
    /// The content of memory, and the entry registers.
    pub plan: LaunchPlan,
}

/// Reads the payload and lays it out. `seeds` randomises an ordinary guest; a Realm is measured and gets none.
///
/// # Errors
///
/// [`PrepareError`] that names the field.
pub fn prepare(config: &VmConfig, seeds: Option<Seeds>) -> Result<Prepared, PrepareError> {
    let (kind, ipa_bits, seeds) = match &config.realm {
        Some(realm) => (VmKind::Realm, realm_backend::ipa_bits(realm), None),
        None => (VmKind::Plain, PLAIN_IPA_BITS, seeds),
    };
    let virtcca = config.realm.as_ref().filter(|realm| realm.backend == RealmBackendName::VirtCca);
    let virtcca = virtcca.map(realm_backend::virtcca_config);
    let ram_base = virtcca.as_ref().map_or(RAM_BASE, |virtcca| virtcca.ram_base);
    let (ram_size, vcpus) = (config.memory.total_size(), config.cpus.max());
    let mut layout = Layout::with_ram_at(ram_base, kind, ram_size, vcpus, ipa_bits)?;
    memory::describe(&mut layout, config);
    let cmdline = &config.payload.cmdline;
    if let Some(path) = &config.payload.firmware {
        // Validation has made sure that this is a virtCCA guest.
        let plan = LaunchPlan::virtcca_firmware(&layout, read("payload.firmware", path)?, cmdline)?;
        return Ok(Prepared { layout, plan });
    }
    let path = config.payload.kernel.clone().unwrap_or_default();
    let kernel = Kernel::load(read("payload.kernel", &path)?)
        .map_err(|source| PrepareError::Kernel { path, source })?;
    let initrd =
        config.payload.initramfs.as_deref().map(|path| read("payload.initramfs", path)).transpose()?;
    let plan = match virtcca {
        None => LaunchPlan::direct_boot(&layout, kernel, initrd, cmdline, seeds)?,
        Some(virtcca) => {
            // Without them the guest does not know what it is. They are logged, and the guest shows them in /proc/cmdline.
            let cmdline = format!("{cmdline} {}", realm::virtcca::kernel_arguments(virtcca.swiotlb));
            tracing::info!(cmdline, "kernel arguments of a virtCCA guest");
            LaunchPlan::virtcca_direct_boot(&layout, kernel, initrd, cmdline.trim())?
        }
    };
    Ok(Prepared { layout, plan })
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, PrepareError> {
    std::fs::read(path).map_err(|source| PrepareError::Read { field, path: path.into(), source })
}

/// Everything that a verifier needs to recompute a Realm Initial Measurement, and the measurement itself.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Realm Initial Measurement.
    pub rim: Digest,
    /// Name of the hash algorithm.
    pub hash_algorithm: &'static str,
    /// The back-end.
    pub backend: RealmBackendName,
    /// Whose rules were followed: the version of an RMM, or `tmm` for virtCCA's monitor.
    pub rmm: String,
    /// Width of the Realm's address space in bits.
    pub ipa_bits: u8,
    /// Number of vCPUs.
    pub vcpus: u16,
    /// How many of them are measured; all but the first start with registers of zero.
    pub measured_vcpus: u16,
    /// What was loaded, in the order of measurement, and the entry registers.
    #[serde(flatten)]
    pub log: LaunchLog,
}

/// Measures what [`prepare`] laid out, without a VM.
///
/// # Errors
///
/// [`PrepareError`] that names the field; [`PrepareError::NotARealm`] for an ordinary VM.
pub fn measure(config: &VmConfig) -> Result<Measurement, PrepareError> {
    let realm = config.realm.as_ref().ok_or(PrepareError::NotARealm)?;
    let Prepared { layout, plan } = prepare(config, None)?;
    let parameters = realm_backend::launch_parameters(realm, &layout)?;
    let rim = realm::measure(&plan, &parameters)?;
    Ok(Measurement::of(realm, &parameters, rim, &layout, &plan))
}

impl Measurement {
    /// The record of a launch whose measurement is `rim`.
    pub(crate) fn of(
        realm: &RealmConfig,
        parameters: &LaunchParameters,
        rim: Digest,
        layout: &Layout,
        plan: &LaunchPlan,
    ) -> Self {
        let (hash, monitor, measured_vcpus) = match parameters {
            LaunchParameters::Rmm { version, realm } => (realm.hash, version.to_string(), 1),
            LaunchParameters::Tmm { cvm, vcpus } => (cvm.hash, "tmm".into(), *vcpus),
        };
        Self {
            rim,
            hash_algorithm: hash.name(),
            backend: realm.backend,
            rmm: monitor,
            ipa_bits: layout.ipa_bits,
            vcpus: layout.vcpus,
            measured_vcpus,
            log: plan.log(),
        }
    }
}

/// Whose rules measure a launch, for a measurement without a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Monitor {
    /// Arm CCA with RMM 1.0.
    #[value(name = "cca-1.0")]
    Cca1,
    /// Arm CCA with RMM 2.0.
    #[value(name = "cca-2.0")]
    Cca2,
    /// Huawei virtCCA.
    Virtcca,
    /// A software Realm.
    Soft,
}

impl Monitor {
    /// Makes `config` one for this monitor. What belongs to another back-end alone is dropped.
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::config::ConfigError) for what this monitor cannot have.
    pub fn choose(self, config: &mut VmConfig) -> Result<(), crate::config::ConfigError> {
        let (backend, rmm) = match self {
            Self::Cca1 => (RealmBackendName::Cca, Some(RmmName::V1_0)),
            Self::Cca2 => (RealmBackendName::Cca, Some(RmmName::V2_0)),
            Self::Virtcca => (RealmBackendName::VirtCca, None),
            Self::Soft => (RealmBackendName::Soft, None),
        };
        let earlier = config.realm.take().unwrap_or_else(|| RealmConfig::of(backend));
        let soft = self == Self::Soft;
        let virtcca = self == Self::Virtcca;
        config.realm = Some(RealmConfig {
            backend,
            rmm: if soft { earlier.rmm } else { rmm },
            ipa_bits: earlier.ipa_bits.filter(|_| backend == RealmBackendName::Cca),
            guest_memfd: earlier.guest_memfd.filter(|_| backend == RealmBackendName::Cca),
            platform: earlier.platform.filter(|_| soft),
            fault: earlier.fault.filter(|_| soft),
            virtcca: earlier.virtcca.filter(|_| virtcca),
            ..earlier
        });
        crate::config::validate(config)
    }
}
