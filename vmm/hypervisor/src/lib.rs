//! KVM and nothing else: virtual machines, vCPUs, memory slots, the interrupt controller, the SMCCC filter.
//!
//! The only crate with KVM ioctls. It knows Arm guests only, so on a machine that is not arm64 it offers the same
//! interface with types that cannot be constructed: [`Hypervisor::open`] says why, and everything above still
//! compiles and is tested there.
//!
//! ```no_run
//! # fn main() -> hypervisor::Result<()> {
//! use hypervisor::{Exit, Hypervisor, VmType};
//!
//! let hypervisor = Hypervisor::open()?;
//! let vm = hypervisor.create_vm(VmType::normal(40))?;
//! let mut vcpu = vm.create_vcpu(0)?;
//! vcpu.init(true, 0)?;
//! while let Exit::Interrupted = vcpu.run()? {}
//! # Ok(())
//! # }
//! ```

mod error;
mod exit;
#[cfg(target_arch = "aarch64")]
mod kvm;
#[cfg(not(target_arch = "aarch64"))]
mod other;
pub mod realm;

pub use error::{Error, Result};
pub use exit::{Exit, MemoryFault, SystemEvent};
#[cfg(target_arch = "aarch64")]
pub use kvm::{Gic, Hypervisor, Kicker, Vcpu, Vm};
#[cfg(not(target_arch = "aarch64"))]
pub use other::{Gic, Hypervisor, Kicker, Vcpu, Vm};

/// Type and address width of a virtual machine: the argument of `KVM_CREATE_VM` on arm64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmType(u64);

impl VmType {
    /// A plain VM whose intermediate physical addresses are `ipa_bits` wide.
    #[must_use]
    pub fn normal(ipa_bits: u8) -> Self {
        Self(u64::from(ipa_bits))
    }

    /// A type whose meaning a Realm back-end knows.
    #[must_use]
    pub const fn of(raw: u64) -> Self {
        Self(raw)
    }

    /// The value that the kernel takes.
    #[must_use]
    pub fn raw(self) -> u64 {
        self.0
    }
}

/// Where the in-kernel GICv3 answers, as guest physical addresses.
///
/// A Realm guest reaches devices through the unprotected half of its address space, so a Realm back-end gives
/// addresses with that half's bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicAddresses {
    /// Distributor, 64 KiB.
    pub distributor: u64,
    /// First redistributor; each vCPU takes 128 KiB.
    pub redistributors: u64,
    /// Interrupt translation service, 128 KiB.
    pub its: u64,
}

/// What KVM does with an SMCCC function range (`KVM_ARM_VM_SMCCC_FILTER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmcccRange {
    /// First function identifier.
    pub base: u32,
    /// Number of function identifiers.
    pub count: u32,
}
