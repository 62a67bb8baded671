//! Guest memory as a device may see it: every access passes a policy first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;
use vm_memory::bitmap::BS;
use vm_memory::guest_memory::{Error as MemoryError, GuestMemorySliceIterator};
use vm_memory::iommu::{Error as IommuError, IovaRange};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryMmap, Permissions};

use crate::log_limit::LogLimit;

/// Why a device access was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DmaFault {
    /// The range holds a page that the Realm has not shared with the host.
    #[error("guest page {gpa:#x} is private to the Realm; the guest driver must use shared (bounce) buffers")]
    Private {
        /// Guest physical address of the first private page, without the alias bit.
        gpa: u64,
    },
    /// The range leaves guest RAM, or wraps.
    #[error("{len} bytes at {iova:#x} are not guest RAM; the guest driver gave a bad address")]
    NotRam {
        /// Address as the device gave it.
        iova: u64,
        /// Length in bytes.
        len: u64,
    },
}

/// Decides which guest memory a device may touch.
pub trait DmaPolicy: Send + Sync {
    /// Turns the device address range `iova..iova + len` into the guest physical address where it starts, or refuses.
    ///
    /// The whole range must be contiguous in guest physical memory and accessible in the given way. In a Realm: mask the
    /// alias (shared) bit, if set, and refuse any range with a private page. `len` is not 0; both come from the guest, so
    /// `iova + len` may overflow.
    ///
    /// # Errors
    /// [`DmaFault`]: the device stops and asks the guest to reset it.
    fn translate(&self, iova: u64, len: u64, access: Permissions) -> Result<u64, DmaFault>;
}

/// The policy of a plain VM: a device address is a guest physical address.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdentityDma;

impl DmaPolicy for IdentityDma {
    fn translate(&self, iova: u64, _len: u64, _access: Permissions) -> Result<u64, DmaFault> {
        Ok(iova)
    }
}

/// Guest memory behind a [`DmaPolicy`]; rings, descriptors and buffers are reached through it alone.
///
/// virtio-queue drops the cause of a failed descriptor read (the chain just ends), so a refusal is remembered here and
/// [`DeviceQueue::pop`](crate::virtio::DeviceQueue::pop) fails from then on.
pub struct DmaMemory {
    memory: Arc<GuestMemoryMmap>,
    policy: Arc<dyn DmaPolicy>,
    device: String,
    refusals: Arc<LogLimit>,
    faulted: AtomicBool,
}

impl DmaMemory {
    /// The view that `device` (a name for the log) has of `memory`. `refusals` outlives the view, so that a guest that
    /// resets the device again and again cannot fill the log.
    pub(crate) fn new(
        memory: Arc<GuestMemoryMmap>,
        policy: Arc<dyn DmaPolicy>,
        device: String,
        refusals: Arc<LogLimit>,
    ) -> Self {
        Self { memory, policy, device, refusals, faulted: AtomicBool::new(false) }
    }

    /// Whether any access through this view was refused.
    pub fn faulted(&self) -> bool {
        self.faulted.load(Ordering::Acquire)
    }

    /// The memory itself, for what [`DmaMemory::translate`] has let through.
    pub(crate) fn backing(&self) -> &Arc<GuestMemoryMmap> {
        &self.memory
    }

    /// Where `len` bytes at `iova` are in guest memory, if the device may access them.
    ///
    /// # Errors
    /// [`DmaFault`], which is remembered.
    pub(crate) fn translate(
        &self,
        iova: GuestAddress,
        len: usize,
        access: Permissions,
    ) -> Result<GuestAddress, DmaFault> {
        let not_ram = DmaFault::NotRam { iova: iova.0, len: len as u64 };
        let checked = self.policy.translate(iova.0, len as u64, access).and_then(|gpa| {
            let gpa = GuestAddress(gpa);
            GuestMemoryBackend::check_range(self.memory.as_ref(), gpa, len).then_some(gpa).ok_or(not_ram)
        });
        checked.inspect_err(|fault| {
            self.faulted.store(true, Ordering::Release);
            if let Some(count) = self.refusals.hit() {
                warn!(
                    device = self.device,
                    iova = format_args!("{:#x}", iova.0),
                    len,
                    ?access,
                    count,
                    "DMA refused: {fault}"
                );
            }
        })
    }
}

impl GuestMemory for DmaMemory {
    type PhysicalMemory = GuestMemoryMmap;
    type Bitmap = ();

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        count == 0 || self.translate(addr, count, access).is_ok()
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, ()>>, MemoryError> {
        let gpa = match count {
            0 => addr,
            _ => self.translate(addr, count, access).map_err(|fault| {
                MemoryError::IommuError(IommuError::CannotResolve {
                    iova_range: IovaRange { base: addr, length: count },
                    reason: fault.to_string(),
                })
            })?,
        };
        Ok(GuestMemoryBackend::get_slices(self.memory.as_ref(), gpa, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;
    use vm_memory::Bytes;

    const ALIAS: u64 = 1 << 39;
    const RAM: u64 = 0x4000_0000;

    /// Pages below `shared_from` are private; the alias bit is masked.
    struct Realm {
        shared_from: u64,
    }

    impl DmaPolicy for Realm {
        fn translate(&self, iova: u64, _len: u64, _access: Permissions) -> Result<u64, DmaFault> {
            let gpa = iova & !ALIAS;
            if gpa < self.shared_from { Err(DmaFault::Private { gpa }) } else { Ok(gpa) }
        }
    }

    fn view(policy: impl DmaPolicy + 'static) -> DmaMemory {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), 0x4000)]).unwrap();
        DmaMemory::new(Arc::new(memory), Arc::new(policy), "test".into(), Arc::default())
    }

    #[test]
    fn shared_pages_are_reached_with_and_without_the_alias_bit() {
        let memory = view(Realm { shared_from: RAM + 0x1000 });
        memory.write_obj(0x1234_5678u32, GuestAddress(ALIAS | (RAM + 0x1000))).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(RAM + 0x1000)).unwrap(), 0x1234_5678);
        assert!(!memory.faulted());
    }

    #[test]
    fn private_page_is_refused_and_remembered() {
        let memory = view(Realm { shared_from: RAM + 0x1000 });
        assert!(memory.load::<u16>(GuestAddress(RAM), Relaxed).is_err());
        assert!(memory.faulted());
    }

    #[test]
    fn range_that_leaves_ram_or_wraps_is_refused_whole() {
        for (iova, len) in [(RAM + 0x3fff, 2), (RAM - 1, 2), (u64::MAX, 2), (RAM, usize::MAX), (0, 1)] {
            let memory = view(IdentityDma);
            assert!(!memory.check_range(GuestAddress(iova), len, Permissions::Read));
            assert!(memory.get_slices(GuestAddress(iova), len, Permissions::Read).is_err());
            assert!(memory.faulted());
        }
    }

    #[test]
    fn access_of_no_bytes_is_no_fault() {
        let memory = view(Realm { shared_from: u64::MAX });
        assert!(memory.check_range(GuestAddress(7), 0, Permissions::Write));
        assert_eq!(memory.get_slices(GuestAddress(7), 0, Permissions::Write).unwrap().count(), 0);
        assert!(!memory.faulted());
    }

    #[test]
    fn physical_memory_is_never_handed_out() {
        assert!(view(IdentityDma).physical_memory().is_none());
    }
}
