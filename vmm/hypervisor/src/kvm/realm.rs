//! The system calls of Realms, which the bindings of mainline kernels do not have.

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use kvm_bindings::{
    KVM_MEM_GUEST_MEMFD, KVM_MEMORY_ATTRIBUTE_PRIVATE, kvm_create_guest_memfd, kvm_enable_cap,
    kvm_memory_attributes, kvm_userspace_memory_region2,
};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::errno::Error as Errno;
use vmm_sys_util::ioctl::{
    _IOC_READ, _IOC_WRITE, ioctl_expr, ioctl_with_mut_ref, ioctl_with_ptr, ioctl_with_ref, ioctl_with_val,
};

use super::{Hypervisor, Vcpu, Vm};
use crate::VmType;
use crate::realm::{CAP_MEMFD_ATTRIBUTES, KVM_LETTER, MemfdRange, RealmHost, RealmVcpu, RealmVm};

const CHECK_EXTENSION: u32 = 0x03;
const LOAD_USER_DATA: u32 = 0x49;
const ENABLE_CAP: u32 = 0xa3;
const ARM_VCPU_FINALIZE: u32 = 0xc2;
const SET_MEMORY_ATTRIBUTES: u32 = 0xd2;
const RMI_POPULATE: u32 = 0xd7;

/// `struct kvm_arm_rmi_populate`.
#[repr(C)]
struct RmiPopulate {
    base: u64,
    size: u64,
    source: u64,
    flags: u32,
    reserved: u32,
}

/// `struct kvm_memory_attributes2`.
#[repr(C)]
struct MemoryAttributes2 {
    offset: u64,
    size: u64,
    attributes: u64,
    flags: u64,
    error_offset: u64,
    reserved: [u64; 11],
}

fn done(result: i32) -> Result<(), Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

fn number_of(direction: u32, number: u32, size: usize) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "structures of requests have at most 16 KiB")]
    let size = size as u32;
    ioctl_expr(direction, KVM_LETTER, number, size)
}

impl RealmVm for Vm {
    fn check_extension(&self, capability: u32) -> i32 {
        let request = ioctl_expr(0, KVM_LETTER, CHECK_EXTENSION, 0);
        // SAFETY: the request takes a number and touches no memory of ours.
        unsafe { ioctl_with_val(self.file(), request, u64::from(capability)) }
    }

    fn enable_capability(
        &self,
        capability: u32,
        operation: u64,
        argument: Option<&[u8]>,
    ) -> Result<(), Errno> {
        let address = argument.map_or(0, |bytes| bytes.as_ptr() as u64);
        let request =
            kvm_enable_cap { cap: capability, args: [operation, address, 0, 0], ..Default::default() };
        let number = number_of(_IOC_WRITE, ENABLE_CAP, size_of::<kvm_enable_cap>());
        // SAFETY: the structure is as the kernel has it; the operations of Realms read the argument and change nothing.
        done(unsafe { ioctl_with_ref(self.file(), number, &request) })
    }

    fn populate(
        &self,
        gpa: u64,
        source: &GuestRegionMmap,
        range: Range<u64>,
        flags: u32,
    ) -> Result<u64, Errno> {
        let size = range.end.saturating_sub(range.start);
        if range.end > source.len() {
            return Err(Errno::new(libc::EINVAL));
        }
        let address = source.as_ptr() as u64 + range.start;
        let mut populate = RmiPopulate { base: gpa, size, source: address, flags, reserved: 0 };
        let number = number_of(_IOC_READ | _IOC_WRITE, RMI_POPULATE, size_of::<RmiPopulate>());
        // SAFETY: the structure is as the kernel has it; it reads `size` bytes from the source, which has them.
        done(unsafe { ioctl_with_mut_ref(self.file(), number, &mut populate) })?;
        Ok(size.saturating_sub(populate.size))
    }

    fn load_user_data(&self, data: &[u8]) -> Result<(), Errno> {
        let number = number_of(_IOC_WRITE, LOAD_USER_DATA, data.len());
        // SAFETY: the request reads as many bytes as its number says, which are as many as `data` has.
        done(unsafe { ioctl_with_ptr(self.file(), number, data.as_ptr()) })
    }

    fn create_guest_memfd(&self, size: u64, flags: u64) -> Result<OwnedFd, Errno> {
        let request = kvm_create_guest_memfd { size, flags, ..Default::default() };
        let fd = self.file().create_guest_memfd(request)?;
        // SAFETY: the kernel has just made the descriptor for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn map_private(
        &self,
        region: &Arc<GuestRegionMmap>,
        memfd: BorrowedFd<'_>,
        range: MemfdRange,
    ) -> Result<(), Errno> {
        let mut slots = self.slots().lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.free()?;
        let slot_region = kvm_userspace_memory_region2 {
            slot,
            flags: KVM_MEM_GUEST_MEMFD,
            guest_phys_addr: range.gpa,
            memory_size: range.size,
            userspace_addr: region.as_ptr() as u64,
            guest_memfd_offset: range.offset,
            guest_memfd: u32::try_from(memfd.as_raw_fd()).map_err(|_| Errno::new(libc::EBADF))?,
            ..Default::default()
        };
        if region.len() < range.size {
            return Err(Errno::new(libc::EINVAL));
        }
        // SAFETY: the range is a mapping of `region`, which `slots` keeps until the kernel has let go of it; the kernel
        // keeps the other file itself.
        unsafe { self.file().set_user_memory_region2(slot_region) }?;
        slots.keep(slot, range.gpa, region);
        Ok(())
    }

    fn set_private(&self, memfd: BorrowedFd<'_>, range: MemfdRange, private: bool) -> Result<(), Errno> {
        let attributes = if private { u64::from(KVM_MEMORY_ATTRIBUTE_PRIVATE) } else { 0 };
        if RealmVm::check_extension(self, CAP_MEMFD_ATTRIBUTES) <= 0 {
            return self.file().set_memory_attributes(kvm_memory_attributes {
                address: range.gpa,
                size: range.size,
                attributes,
                flags: 0,
            });
        }
        let mut request = MemoryAttributes2 {
            offset: range.offset,
            size: range.size,
            attributes,
            flags: 0,
            error_offset: 0,
            reserved: [0; 11],
        };
        let size = size_of::<MemoryAttributes2>();
        let number = number_of(_IOC_READ | _IOC_WRITE, SET_MEMORY_ATTRIBUTES, size);
        // SAFETY: the structure is as the kernel has it.
        done(unsafe { ioctl_with_mut_ref(&memfd, number, &mut request) })
    }
}

impl RealmVcpu for Vcpu {
    fn finalize(&self, feature: u32) -> Result<(), Errno> {
        let number = number_of(_IOC_WRITE, ARM_VCPU_FINALIZE, size_of::<i32>());
        // SAFETY: the request reads one integer.
        done(unsafe { ioctl_with_ref(self.file(), number, &feature.cast_signed()) })
    }
}

impl RealmHost for Hypervisor {
    fn ipa_limit(&self) -> u32 {
        Self::ipa_limit(self)
    }

    fn can_create(&self, vm_type: u64) -> bool {
        self.create_vm(VmType::of(vm_type)).is_ok()
    }

    fn check_extension(&self, capability: u32) -> i32 {
        self.check_extension_number(capability)
    }
}
