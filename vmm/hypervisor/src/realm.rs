//! What Realm back-ends ask of a kernel, beyond what every VM needs.
//!
//! The kernel's interface for Realms came in generations that have little in common. These traits are the system calls
//! of all of them; which are made, and in which order, is the back-end's business. [`Vm`](crate::Vm) makes them for
//! real; a simulated kernel makes them in tests, where no such hardware exists.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use vm_memory::GuestRegionMmap;
use vmm_sys_util::errno::Error as Errno;

/// `KVMIO`, the letter of KVM's requests.
pub const KVM_LETTER: u32 = 0xae;

/// `KVM_CAP_GUEST_MEMFD_FLAGS`: a VM answers the flags that a guest_memfd can have.
pub const CAP_MEMFD_FLAGS: u32 = 244;

/// `KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES`: whether memory is private is said to the file and not to the VM.
pub const CAP_MEMFD_ATTRIBUTES: u32 = 250;

/// `GUEST_MEMFD_FLAG_MMAP`: the file can be mapped, and what of it is shared can be reached by that.
pub const MEMFD_MMAP: u64 = 1;

/// A range of guest memory that lies in a guest_memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemfdRange {
    /// Guest physical address.
    pub gpa: u64,
    /// Where it lies in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// A VM of a kernel that knows Realms.
pub trait RealmVm {
    /// `KVM_CHECK_EXTENSION` on the VM.
    fn check_extension(&self, capability: u32) -> i32;

    /// `KVM_ENABLE_CAP` with the operation in `args[0]` and, in `args[1]`, the address of `argument`, if there is one.
    ///
    /// # Errors
    /// The kernel's.
    fn enable_capability(
        &self,
        capability: u32,
        operation: u64,
        argument: Option<&[u8]>,
    ) -> Result<(), Errno>;

    /// `KVM_ARM_RMI_POPULATE`: copies `range` of `source` to `gpa`. Gives the number of bytes that the kernel has dealt
    /// with, which may be fewer.
    ///
    /// # Errors
    /// The kernel's.
    fn populate(
        &self,
        gpa: u64,
        source: &GuestRegionMmap,
        range: Range<u64>,
        flags: u32,
    ) -> Result<u64, Errno>;

    /// `KVM_LOAD_USER_DATA` with a structure of as many bytes as `data` has.
    ///
    /// # Errors
    /// The kernel's.
    fn load_user_data(&self, data: &[u8]) -> Result<(), Errno>;

    /// `KVM_CREATE_GUEST_MEMFD`. All of its memory is private.
    ///
    /// # Errors
    /// The kernel's.
    fn create_guest_memfd(&self, size: u64, flags: u64) -> Result<OwnedFd, Errno>;

    /// `KVM_SET_USER_MEMORY_REGION2`: `region` is what the guest shares, `range` of `memfd` what it keeps to itself.
    ///
    /// # Errors
    /// The kernel's.
    fn map_private(
        &self,
        region: &Arc<GuestRegionMmap>,
        memfd: BorrowedFd<'_>,
        range: MemfdRange,
    ) -> Result<(), Errno>;

    /// `KVM_SET_MEMORY_ATTRIBUTES`, on the VM or on the file, as the kernel has it: whether the range is private.
    ///
    /// # Errors
    /// The kernel's.
    fn set_private(&self, memfd: BorrowedFd<'_>, range: MemfdRange, private: bool) -> Result<(), Errno>;
}

/// A vCPU of a kernel that knows Realms.
pub trait RealmVcpu {
    /// `KVM_ARM_VCPU_FINALIZE` of a feature.
    ///
    /// # Errors
    /// The kernel's.
    fn finalize(&self, feature: u32) -> Result<(), Errno>;
}

/// A kernel that may know Realms.
pub trait RealmHost {
    /// Widest guest physical address in bits.
    fn ipa_limit(&self) -> u32;

    /// Whether a VM of this type can be created; it is gone when this returns.
    fn can_create(&self, vm_type: u64) -> bool;

    /// `KVM_CHECK_EXTENSION` on the system.
    fn check_extension(&self, capability: u32) -> i32;
}
