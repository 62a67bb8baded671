//! The interface on a host that has KVM for arm64 guests.

mod gic;
mod kick;
mod realm;
mod vcpu;
mod vm;

pub use gic::Gic;
pub use kick::Kicker;
pub use vcpu::Vcpu;
pub use vm::Vm;

use kvm_ioctls::{Cap, Kvm};

use crate::{Error, Result, VmType};

/// KVM's system file.
#[derive(Debug)]
pub struct Hypervisor {
    kvm: Kvm,
}

impl Hypervisor {
    /// Opens `/dev/kvm` and checks that it offers what Redoubt cannot do without.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] or [`Error::Capability`].
    pub fn open() -> Result<Self> {
        let kvm = Kvm::new().map_err(Error::Open)?;
        for (cap, capability) in [
            (Cap::OneReg, "KVM_CAP_ONE_REG"),
            (Cap::ArmPsci02, "KVM_CAP_ARM_PSCI_0_2"),
            (Cap::DeviceCtrl, "KVM_CAP_DEVICE_CTRL"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
            (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
            (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(Error::Capability { capability, remedy: "use Linux 6.4 or newer" });
            }
        }
        Ok(Self { kvm })
    }

    /// Widest guest physical address, in bits, that the host supports.
    #[must_use]
    pub fn ipa_limit(&self) -> u32 {
        // Kernels before 4.20 know one width only.
        const FIXED_WIDTH: u32 = 40;
        match u32::try_from(self.kvm.get_host_ipa_limit()) {
            Ok(limit) if limit > 0 => limit,
            _ => FIXED_WIDTH,
        }
    }

    /// `KVM_CHECK_EXTENSION` for a number that the bindings do not know.
    #[must_use]
    pub fn check_extension_number(&self, capability: u32) -> i32 {
        self.kvm.check_extension_raw(capability.into())
    }

    /// Creates an empty VM.
    ///
    /// # Errors
    ///
    /// [`Error::CreateVm`] when the host does not support the type or the address width.
    pub fn create_vm(&self, vm_type: VmType) -> Result<Vm> {
        let created = self.kvm.create_vm_with_type(vm_type.raw()).map(Vm::new);
        let vm = created.map_err(|source| Error::CreateVm {
            vm_type: vm_type.raw(),
            ipa_limit: self.ipa_limit(),
            source,
        })?;
        vm.ask_for_undecodable_accesses()?;
        Ok(vm)
    }
}
