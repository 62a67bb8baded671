//! A virtual machine: memory slots, interrupts, doorbells, the SMCCC filter.

use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_ARM_IRQ_TYPE_SHIFT, KVM_ARM_IRQ_TYPE_SPI, KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER,
    KVM_CAP_ARM_INJECT_EXT_DABT, KVM_CAP_ARM_NISV_TO_USER, KVM_MSI_VALID_DEVID, kvm_device_attr, kvm_msi,
    kvm_smccc_filter, kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::errno::Error as Errno;
use vmm_sys_util::eventfd::EventFd;

use super::{Gic, Vcpu, gic};
use crate::realm::RealmVm;
use crate::{Error, GicAddresses, Result, SmcccRange};

/// First shared peripheral interrupt in the GIC's own numbering.
const SPI_BASE: u32 = 32;

#[expect(
    clippy::cast_possible_truncation,
    reason = "the header's enumeration is wider than the field; the value is 2"
)]
const FORWARD_TO_USER: u8 = kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER as u8;

/// A virtual machine.
///
/// It keeps the memory of its slots alive for as long as the kernel may touch it.
#[derive(Debug)]
pub struct Vm {
    // Dropped before `slots`: the kernel must let go of the memory first.
    fd: VmFd,
    slots: Mutex<Slots>,
}

/// Memory slots of a VM, by number.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Option<(u64, Arc<GuestRegionMmap>)>>);

impl Slots {
    /// The lowest number that is free.
    pub(super) fn free(&self) -> std::result::Result<u32, Errno> {
        let number = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        u32::try_from(number).map_err(|_| Errno::new(libc::ENOSPC))
    }

    /// Keeps `region`, which the guest sees at `gpa`, under that number.
    pub(super) fn keep(&mut self, number: u32, gpa: u64, region: &Arc<GuestRegionMmap>) {
        let kept = Some((gpa, Arc::clone(region)));
        match self.0.get_mut(number as usize) {
            Some(slot) => *slot = kept,
            None => self.0.push(kept),
        }
    }

    fn at(&self, gpa: u64) -> Option<usize> {
        self.0.iter().position(|slot| slot.as_ref().is_some_and(|(start, _)| *start == gpa))
    }
}

impl Vm {
    pub(super) const fn file(&self) -> &VmFd {
        &self.fd
    }

    pub(super) const fn slots(&self) -> &Mutex<Slots> {
        &self.slots
    }

    pub(super) fn new(fd: VmFd) -> Self {
        Self { fd, slots: Mutex::default() }
    }

    /// Has accesses to devices that KVM cannot decode reported as [`Exit::Undecodable`](crate::Exit): otherwise the guest
    /// could end its VM with any of them. Kernels before 5.5, and kinds of VMs that have no such report, stay as they are.
    pub(super) fn ask_for_undecodable_accesses(&self) -> Result<()> {
        let offered = |capability| RealmVm::check_extension(self, capability) > 0;
        if !offered(KVM_CAP_ARM_NISV_TO_USER) || !offered(KVM_CAP_ARM_INJECT_EXT_DABT) {
            return Ok(());
        }
        RealmVm::enable_capability(self, KVM_CAP_ARM_NISV_TO_USER, 0, None)
            .map_err(|source| Error::Kvm { action: "report accesses that it cannot decode", source })
    }

    /// Shows `region` to the guest at `gpa`; the same region may be shown at several addresses.
    ///
    /// # Errors
    ///
    /// [`Error::MapMemory`] when the slot overlaps another one or lies beyond the address width.
    pub fn map_memory(&self, gpa: u64, region: &Arc<GuestRegionMmap>) -> Result<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let size = region.len();
        let failed = |source| Error::MapMemory { gpa, size, source };
        let slot = slots.free().map_err(failed)?;
        let slot_region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: gpa,
            memory_size: size,
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the range is a mapping of `region`, which `slots` keeps until the kernel has let go of it.
        unsafe { self.fd.set_user_memory_region(slot_region) }.map_err(failed)?;
        slots.keep(slot, gpa, region);
        Ok(())
    }

    /// Takes the memory away that the guest sees from `gpa` on; the guest must not use it any more.
    ///
    /// # Errors
    ///
    /// [`Error::UnmapMemory`] where there is none.
    pub fn unmap_memory(&self, gpa: u64) -> Result<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |source| Error::UnmapMemory { gpa, source };
        let number = slots.at(gpa).ok_or_else(|| failed(Errno::new(libc::ENOENT)))?;
        let slot = u32::try_from(number).map_err(|_| failed(Errno::new(libc::ENOENT)))?;
        let nothing = kvm_userspace_memory_region { slot, guest_phys_addr: gpa, ..Default::default() };
        // SAFETY: a slot of size 0 refers to no memory; afterwards the kernel uses that of the old one no more.
        unsafe { self.fd.set_user_memory_region(nothing) }.map_err(failed)?;
        if let Some(slot) = slots.0.get_mut(number) {
            *slot = None;
        }
        Ok(())
    }

    /// Creates vCPU `index`; its MPIDR follows from the index.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn create_vcpu(&self, index: u16) -> Result<Vcpu> {
        let fd = self
            .fd
            .create_vcpu(u64::from(index))
            .map_err(|source| Error::Kvm { action: "create a vCPU", source })?;
        let mut target = kvm_bindings::kvm_vcpu_init::default();
        self.fd
            .get_preferred_target(&mut target)
            .map_err(|source| Error::Kvm { action: "name the host's CPU type", source })?;
        Ok(Vcpu::new(fd, target))
    }

    /// Creates the GICv3 with its interrupt translation service, after all vCPUs have been created.
    ///
    /// `spis` is the number of shared peripheral interrupts; KVM wants the total to be a multiple of 32.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`]; the usual cause is a host whose interrupt controller is a GICv2.
    pub fn create_gic(&self, addresses: GicAddresses, spis: u32) -> Result<Gic> {
        gic::create(&self.fd, addresses, spis)
    }

    /// Forwards the SMCCC functions of `range` to user space; must precede the first run of any vCPU.
    ///
    /// # Errors
    ///
    /// [`Error::Capability`] on kernels before 6.4, else [`Error::Kvm`].
    pub fn forward_smccc(&self, range: SmcccRange) -> Result<()> {
        let filter = kvm_smccc_filter {
            base: range.base,
            nr_functions: range.count,
            action: FORWARD_TO_USER,
            pad: [0; 15],
        };
        let attr = kvm_device_attr {
            group: KVM_ARM_VM_SMCCC_CTRL,
            attr: u64::from(KVM_ARM_VM_SMCCC_FILTER),
            addr: std::ptr::from_ref(&filter) as u64,
            flags: 0,
        };
        self.fd.has_device_attr(&attr).map_err(|_| Error::Capability {
            capability: "the SMCCC filter (KVM_ARM_VM_SMCCC_FILTER)",
            remedy: "use Linux 6.4 or newer on the host",
        })?;
        self.fd
            .set_device_attr(&attr)
            .map_err(|source| Error::Kvm { action: "forward SMCCC calls to user space", source })
    }

    /// Sets the level of shared peripheral interrupt `spi` (0 is the GIC's interrupt 32).
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn set_spi(&self, spi: u32, level: bool) -> Result<()> {
        let irq = (KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT) | (spi + SPI_BASE);
        self.fd
            .set_irq_line(irq, level)
            .map_err(|source| Error::Kvm { action: "set the level of an interrupt line", source })
    }

    /// Delivers a message-signalled interrupt written to `address`, the ITS's translation register.
    ///
    /// Returns whether the guest takes it; a guest that has masked or not yet mapped it does not.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`] when no interrupt translation service answers at `address`.
    pub fn signal_msi(&self, address: u64, data: u32, device_id: u32) -> Result<bool> {
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the address in two halves")]
        let msi = kvm_msi {
            address_lo: address as u32,
            address_hi: (address >> 32) as u32,
            data,
            flags: KVM_MSI_VALID_DEVID,
            devid: device_id,
            ..Default::default()
        };
        self.fd
            .signal_msi(msi)
            .map(|delivered| delivered > 0)
            .map_err(|source| Error::Kvm { action: "deliver a message-signalled interrupt", source })
    }

    /// Makes guest writes to `gpa` of any size signal `doorbell` without leaving the kernel.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`], also when the address has a doorbell already.
    pub fn register_doorbell(&self, gpa: u64, doorbell: &EventFd) -> Result<()> {
        self.fd
            .register_ioevent(doorbell, &IoEventAddress::Mmio(gpa), NoDatamatch)
            .map_err(|source| Error::Kvm { action: "register a doorbell", source })
    }

    /// Undoes [`Vm::register_doorbell`].
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn unregister_doorbell(&self, gpa: u64, doorbell: &EventFd) -> Result<()> {
        self.fd
            .unregister_ioevent(doorbell, &IoEventAddress::Mmio(gpa), NoDatamatch)
            .map_err(|source| Error::Kvm { action: "unregister a doorbell", source })
    }
}
