//! From a configuration to a launch plan, which is measured offline or put into a VM: the same bytes either way.

use std::path::{Path, PathBuf};

use evidence::hash::{Digest, HashAlgorithm};
use evidence::rmm::RmmVersion;
use machine::fdt::Seeds;
use machine::kernel::{Kernel, KernelError};
use machine::launch::{LaunchError, LaunchLog, LaunchPlan};
use machine::layout::{Layout, LayoutError, VmKind};
use realm::soft;
use serde::Serialize;
use thiserror::Error;

use crate::memory;
use api::VmConfig;
use api::config::{HashName, RealmConfig, RmmName};

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
    let (kind, ipa_bits, seeds) = match config.realm {
        Some(_) => (VmKind::Realm, soft::IPA_BITS, None),
        None => (VmKind::Plain, PLAIN_IPA_BITS, seeds),
    };
    let mut layout = Layout::new(kind, config.memory.total_size(), config.cpus.boot_vcpus, ipa_bits)?;
    memory::describe(&mut layout, config);
    let path = &config.payload.kernel;
    let kernel = Kernel::load(read("payload.kernel", path)?)
        .map_err(|source| PrepareError::Kernel { path: path.clone(), source })?;
    let initrd =
        config.payload.initramfs.as_deref().map(|path| read("payload.initramfs", path)).transpose()?;
    let plan = LaunchPlan::direct_boot(&layout, kernel, initrd, &config.payload.cmdline, seeds)?;
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
    /// Version of the RMM whose rules were followed.
    pub rmm: RmmName,
    /// Width of the Realm's address space in bits.
    pub ipa_bits: u8,
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
    let rim = realm::measure(&plan, &parameters(realm)?.launch())?;
    Measurement::of(realm, rim, &layout, &plan)
}

impl Measurement {
    /// The record of a launch whose measurement is `rim`.
    pub(crate) fn of(
        realm: &RealmConfig,
        rim: Digest,
        layout: &Layout,
        plan: &LaunchPlan,
    ) -> Result<Self, PrepareError> {
        Ok(Self {
            rim,
            hash_algorithm: parameters(realm)?.hash.name(),
            rmm: realm.rmm,
            ipa_bits: layout.ipa_bits,
            log: plan.log(),
        })
    }
}

/// The parameters with which the Realm is created.
pub(crate) fn parameters(realm: &RealmConfig) -> Result<soft::Parameters, PrepareError> {
    Ok(soft::Parameters {
        hash: match realm.measurement_algorithm {
            HashName::Sha256 => HashAlgorithm::Sha256,
            HashName::Sha512 => HashAlgorithm::Sha512,
        },
        rmm: match realm.rmm {
            RmmName::V1_0 => RmmVersion::V1_0,
            RmmName::V2_0 => RmmVersion::V2_0,
        },
        rpv: crate::config::personalization_value(realm)?,
    })
}
