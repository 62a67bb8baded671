//! What makes a VM confidential: the Realm back-ends.
//!
//! A back-end decides how a VM is created, how its memory is mapped and loaded, which calls of the guest it answers,
//! and what the launch measurement must be. The VMM drives it through [`RealmBackend`], in the order of its methods.
//!
//! [`cca`] and [`virtcca`] are for kernels with Arm CCA and Huawei virtCCA. No test has such hardware, so they make their
//! calls through [`hypervisor::realm`], behind which a simulated kernel can stand.
//! [`soft`] is a software RMM on plain KVM: it gives function, not confidentiality, and is never chosen by itself.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod cca;
mod kernel;
mod measure;
#[cfg(test)]
mod sim;
pub mod soft;
pub mod virtcca;

use std::fmt::Debug;
use std::fs::File;
use std::sync::Arc;

use evidence::hash::Digest;
use hypervisor::{MemoryFault, Vcpu, Vm, VmType};
use machine::launch::LaunchPlan;
use thiserror::Error;
use vm_memory::{GuestMemoryMmap, GuestRegionMmap};

pub use measure::{LaunchParameters, measure};

/// A way to run a Realm.
pub trait RealmBackend: Debug + Send + Sync {
    /// Name of the back-end, as the configuration spells it.
    fn name(&self) -> &'static str;

    /// Width of the Realm's address space in bits; the upper half is unprotected.
    fn ipa_bits(&self) -> u8;

    /// Type with which the VM is to be created.
    fn vm_type(&self) -> VmType;

    /// Feature bits with which each vCPU is initialised (`KVM_ARM_VCPU_INIT`).
    fn vcpu_features(&self) -> u32 {
        0
    }

    /// What is measured besides the content of memory.
    fn launch_parameters(&self) -> LaunchParameters;

    /// Prepares a VM that has neither memory nor vCPUs yet.
    ///
    /// # Errors
    ///
    /// [`Error::Hypervisor`] when the host cannot do what the back-end needs.
    fn configure(&self, vm: &Arc<Vm>) -> Result<(), Error>;

    /// The file that is to be mapped as `size` bytes of RAM, if the back-end does not take ordinary memory.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Kernel`].
    fn ram_file(&self, _vm: &Vm, _size: u64) -> Result<Option<File>, Error> {
        Ok(None)
    }

    /// Gives the VM a region of RAM at the address that the region carries. It maps what [`RealmBackend::ram_file`] gave.
    ///
    /// # Errors
    ///
    /// [`Error::Hypervisor`].
    fn map_ram(&self, vm: &Vm, region: &Arc<GuestRegionMmap>) -> Result<(), Error>;

    /// Where a device that the device tree places at `gpa` must answer in the VM's address space.
    fn device_address(&self, gpa: u64) -> u64;

    /// The address of the board that an address of the guest means.
    fn board_address(&self, gpa: u64) -> u64;

    /// Puts the plan into memory, measures it, and returns the Realm Initial Measurement.
    ///
    /// # Errors
    ///
    /// [`Error`] when the plan does not fit the memory or cannot be measured, or on a second load.
    fn load(&self, vm: &Vm, memory: &GuestMemoryMmap, plan: &LaunchPlan) -> Result<Digest, Error>;

    /// Completes a vCPU whose entry state is set.
    ///
    /// # Errors
    ///
    /// [`Error::Hypervisor`].
    fn finalise_vcpu(&self, vcpu: &mut Vcpu) -> Result<(), Error>;

    /// Makes the Realm ready to run; nothing can be loaded any more.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`] when nothing has been loaded.
    fn activate(&self, vm: &Vm) -> Result<(), Error>;

    /// Answers a call that vCPU `vcpu` made to the monitor of its Realm.
    ///
    /// # Errors
    ///
    /// Only for a failure of the host; a call that is wrong is answered with a status.
    fn call(&self, vcpu: u16, call: MonitorCall, registers: &mut dyn Registers) -> Result<(), Error>;

    /// Converts memory between private and shared after the guest touched a page that is in the other state.
    ///
    /// # Errors
    ///
    /// [`Error::Fault`] when the guest may not have what it asked for.
    fn convert(&self, fault: MemoryFault) -> Result<(), Error>;

    /// The address of the board behind `iova .. iova + len` if a device may reach all of it.
    ///
    /// # Errors
    ///
    /// [`Error::PrivateMemory`] when the Realm has not shared the range.
    fn device_access(&self, iova: u64, len: u64) -> Result<u64, Error>;
}

/// A call that the hypervisor forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorCall {
    /// SMCCC function identifier.
    pub function: u32,
    /// Whether it came by SMC, the only way out of a Realm.
    pub smc: bool,
}

/// The general registers of the vCPU that made a call.
pub trait Registers {
    /// Reads x`register`.
    ///
    /// # Errors
    ///
    /// [`Error::Hypervisor`].
    fn get(&self, register: usize) -> Result<u64, Error>;

    /// Writes x`register`.
    ///
    /// # Errors
    ///
    /// [`Error::Hypervisor`].
    fn set(&mut self, register: usize, value: u64) -> Result<(), Error>;
}

impl Registers for Vcpu {
    fn get(&self, register: usize) -> Result<u64, Error> {
        Ok(self.gpr(register)?)
    }

    fn set(&mut self, register: usize, value: u64) -> Result<(), Error> {
        Ok(self.set_gpr(register, value)?)
    }
}

/// A Realm cannot be launched, or cannot go on.
#[derive(Debug, Error)]
pub enum Error {
    /// KVM refused something.
    #[error("the host cannot run this Realm")]
    Hypervisor(#[from] hypervisor::Error),
    /// The plan cannot be measured.
    #[error("the launch cannot be measured")]
    Measure(#[from] evidence::rmm::Error),
    /// A segment does not fit the memory.
    #[error("the {segment} at {gpa:#x} does not fit guest memory")]
    Load {
        /// Name of the segment.
        segment: &'static str,
        /// Guest physical address of its first byte.
        gpa: u64,
        /// Why it does not fit.
        #[source]
        source: vm_memory::GuestMemoryError,
    },
    /// The host has no such Realms.
    #[error(
        "realm.backend {backend}: this host cannot run such VMs; it takes {needed} (realm.backend soft runs anywhere)"
    )]
    NoHost {
        /// Name of the back-end.
        backend: &'static str,
        /// What it needs.
        needed: &'static str,
    },
    /// The host's Realms have a narrower address space.
    #[error(
        "realm.ipa_bits: the host's Realms have an address space of at most {widest} bits, and {asked} are asked for; \
         say realm.ipa_bits={widest}, and have the measurement made anew"
    )]
    IpaWidth {
        /// Bits asked for.
        asked: u8,
        /// Bits that the host has.
        widest: u8,
    },
    /// The configuration asks for what such a Realm cannot have.
    #[error("realm.{field}: realm.backend {backend} cannot have it: {reason}")]
    Refused {
        /// Name of the back-end.
        backend: &'static str,
        /// Field of the configuration.
        field: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A call for Realms failed.
    #[error("KVM cannot {action}")]
    Kernel {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// Reason that the kernel gave.
        #[source]
        source: vmm_sys_util::errno::Error,
    },
    /// Memory that content is loaded from cannot be had.
    #[error("the Realm's content has no memory to be loaded from")]
    Staging(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel did not go on with a load.
    #[error(
        "the kernel makes no progress with the load at {gpa:#x} (it says that it has dealt with {done} bytes)"
    )]
    NoProgress {
        /// Guest physical address.
        gpa: u64,
        /// What it says it has done.
        done: u64,
    },
    /// What was loaded could not be removed from shared memory.
    #[error("memory that the Realm made private cannot be given back")]
    Discard(#[source] guest_memory::Error),
    /// A part of the plan is missing.
    #[error("the launch plan has no {0}, which this back-end needs")]
    Incomplete(&'static str),
    /// The launch breaks a rule of virtCCA's monitor.
    #[error("the launch cannot be measured")]
    MeasureTmm(#[from] evidence::tmm::Error),
    /// The Realm was loaded twice.
    #[error("a Realm is loaded once; tear it down and build a new one")]
    AlreadyLoaded,
    /// The Realm has no content.
    #[error("a Realm must be loaded before it can be activated")]
    NotLoaded,
    /// A device reached for private memory.
    #[error(
        "{len} bytes at {iova:#x} are private to the Realm; the guest must share what devices are to see"
    )]
    PrivateMemory {
        /// Address that the device used.
        iova: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The guest touched memory that the back-end cannot provide.
    #[error("the guest faulted at {gpa:#x} ({size:#x} bytes) and this back-end has nothing to convert")]
    Fault {
        /// Guest physical address.
        gpa: u64,
        /// Length in bytes.
        size: u64,
    },
    /// The development platform is described wrongly.
    #[error("{field} of the software Realm's platform: {problem}")]
    Platform {
        /// Field of the configuration.
        field: &'static str,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A token could not be minted.
    #[error("the attestation token cannot be made")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn token(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Token(source.into())
    }
}
