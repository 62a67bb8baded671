//! Simulated kernels: one for each generation of the interface, each with the monitor below it.
//!
//! They hold a back-end to what the interface says: which call may come in which state, how arguments are laid out and
//! aligned, which error follows. Where the sources name no error for a call in the wrong state, these kernels answer
//! `EPERM`. They measure what they are given, by themselves, so that a back-end's own account can be compared.

mod legacy;
mod rmi;
mod virtcca;

pub(crate) use legacy::LegacyKernel;
pub(crate) use rmi::RmiKernel;
pub(crate) use virtcca::VirtCcaKernel;

use std::sync::Arc;

use evidence::hash::HashAlgorithm;
use machine::launch::{LaunchPlan, Segment, VcpuEntry};
use machine::layout::Region;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};
use vmm_sys_util::errno::Error as Errno;

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENXIO: i32 = 6;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const EFAULT: i32 = 14;
pub(crate) const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENOTTY: i32 = 25;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn refuse<T>(number: i32) -> Result<T, Errno> {
    Err(Errno::new(number))
}

pub(crate) fn require(holds: bool, number: i32) -> Result<(), Errno> {
    if holds { Ok(()) } else { refuse(number) }
}

/// The error number of a call that failed.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn errno_of(error: crate::Error) -> Option<i32> {
    match error {
        crate::Error::Kernel { source, .. } => Some(source.errno()),
        _ => None,
    }
}

pub(crate) fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * index..][..8].try_into().unwrap())
}

pub(crate) fn half(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..][..4].try_into().unwrap())
}

pub(crate) fn aligned(values: &[u64]) -> bool {
    values.iter().all(|value| value.is_multiple_of(PAGE))
}

/// A page of a memory slot.
pub(crate) fn slot_page(slots: &[Arc<GuestRegionMmap>], gpa: u64) -> Result<[u8; 4096], Errno> {
    let slot = slots.iter().find(|slot| {
        let offset = gpa.checked_sub(slot.start_addr().0);
        offset.is_some_and(|offset| offset + PAGE <= slot.len())
    });
    let Some(slot) = slot else { return refuse(EFAULT) };
    let mut page = [0; 4096];
    slot.read_slice(&mut page, vm_memory::MemoryRegionAddress(gpa - slot.start_addr().0)).unwrap();
    Ok(page)
}

pub(crate) fn hash(code: u32) -> Result<HashAlgorithm, Errno> {
    match code {
        0 => Ok(HashAlgorithm::Sha256),
        1 => Ok(HashAlgorithm::Sha512),
        _ => refuse(EINVAL),
    }
}

/// RAM of `size` bytes at `base`.
pub(crate) fn memory(base: u64, size: u64) -> (GuestMemoryMmap, Vec<Arc<GuestRegionMmap>>) {
    memory_of(&[Region::new(base, size)])
}

/// Memory in several parts.
pub(crate) fn memory_of(parts: &[Region]) -> (GuestMemoryMmap, Vec<Arc<GuestRegionMmap>>) {
    let map = |part: &Region| {
        let options = guest_memory::Options { size: part.size, ..guest_memory::Options::default() };
        Arc::new(guest_memory::map(part.base, &options).unwrap())
    };
    let regions: Vec<_> = parts.iter().map(map).collect();
    let memory = GuestMemoryMmap::from_arc_regions(regions.clone()).unwrap();
    assert!(parts.iter().all(|part| memory.address_in_range(GuestAddress(part.base))));
    (memory, regions)
}

/// A plan with a measured and an unmeasured part.
pub(crate) fn plan(base: u64, size: u64) -> LaunchPlan {
    let content: Vec<u8> = (0..3 * 4096_u32).map(|at| (at % 251) as u8).collect();
    let segments = vec![
        Segment::new("kernel", base + 2 * MIB, content, true),
        Segment::new("dtb", base, vec![0x5a; 4096], true),
    ];
    let entry = VcpuEntry { pc: base + 2 * MIB, gprs: [base, 0, 0, 0, 0, 0, 0, 0] };
    LaunchPlan::new(vec![Region::new(base, size)], segments, entry).unwrap()
}
