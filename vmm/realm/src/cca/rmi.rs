//! The interface of KVM's CCA patches from v14 on: memory is populated, everything else happens at the first run.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use evidence::hash::Digest;
use evidence::rmm::RmmVersion;
use hypervisor::realm::{CAP_MEMFD_ATTRIBUTES, CAP_MEMFD_FLAGS, MEMFD_MMAP, MemfdRange, RealmVm};
use hypervisor::{MemoryFault, Vcpu, Vm, VmType};
use machine::launch::LaunchPlan;
use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::{Bytes, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};
use vmm_sys_util::errno::Error as Errno;

use super::{Parameters, check, launch_parameters};
use crate::kernel::{Phase, failed};
use crate::{Error, LaunchParameters, MonitorCall, RealmBackend, Registers, measure};

/// `KVM_ARM_RMI_POPULATE_FLAGS_MEASURE`.
pub(crate) const MEASURE: u32 = 1;
const PAGE: u64 = 4096;
/// Bytes that are loaded at a time: that much is copied, and not the whole content.
const STAGING: usize = 2 << 20;
/// How often a page is taken back that the host still uses, and how long to wait in between: I/O to it has to end first.
const ATTEMPTS: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(1);
/// What the kernel answers meanwhile.
const EAGAIN: i32 = 11;

/// What backs the memory of a Realm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// Two memories: what the guest shares lies in ordinary memory, what it keeps in a guest_memfd.
    #[default]
    Separate,
    /// One guest_memfd, whose pages are converted where they are. It takes half of the memory of a guest that shares
    /// much, and a newer kernel.
    InPlace,
}

/// `KVM_VM_TYPE_ARM_REALM`.
pub(super) fn vm_type(ipa_bits: u8) -> u64 {
    1 << 30 | u64::from(ipa_bits)
}

/// A Realm on such a kernel.
#[derive(Debug)]
pub struct Rmi {
    ipa_bits: u8,
    parameters: Parameters,
    backing: Backing,
    phase: Mutex<Phase>,
    slots: Mutex<Vec<Slot>>,
    vm: OnceLock<Arc<Vm>>,
}

/// RAM and what backs it.
#[derive(Debug)]
struct Slot {
    /// What the guest shares.
    shared: Arc<GuestRegionMmap>,
    /// What it keeps to itself; where there is one backing, the same memory.
    private: OwnedFd,
    /// Where it begins in that file.
    offset: u64,
    /// The pages that are shared now.
    states: Vec<bool>,
}

impl Rmi {
    /// A Realm that is not created yet.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for what such a kernel cannot give.
    pub fn new(ipa_bits: u8, parameters: Parameters, backing: Backing) -> Result<Self, Error> {
        check(RmmVersion::V2_0, &parameters)?;
        Ok(Self {
            ipa_bits,
            parameters,
            backing,
            phase: Mutex::default(),
            slots: Mutex::default(),
            vm: OnceLock::new(),
        })
    }

    const fn shared_bit(&self) -> u64 {
        1 << (self.ipa_bits - 1)
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ram_file_on(&self, vm: &dyn RealmVm, size: u64) -> Result<Option<File>, Error> {
        if self.backing == Backing::Separate {
            return Ok(None);
        }
        let flags = u64::try_from(vm.check_extension(CAP_MEMFD_FLAGS)).unwrap_or(0);
        if flags & MEMFD_MMAP == 0 || vm.check_extension(CAP_MEMFD_ATTRIBUTES) <= 0 {
            return Err(Error::Refused {
                backend: "cca",
                field: "guest_memfd",
                reason: "this kernel does not convert memory in place; say separate",
            });
        }
        let file = vm.create_guest_memfd(size, MEMFD_MMAP).map_err(failed("create memory of the Realm"))?;
        Ok(Some(file.into()))
    }

    pub(super) fn map_on(&self, vm: &dyn RealmVm, region: &Arc<GuestRegionMmap>) -> Result<(), Error> {
        let size = region.len();
        let (private, offset) = match (self.backing, region.file_offset()) {
            (Backing::InPlace, Some(file)) => {
                let copy = file.file().as_fd().try_clone_to_owned();
                (copy.map_err(|error| Error::Staging(error.into()))?, file.start())
            }
            (Backing::InPlace, None) => return Err(Error::Incomplete("file of the memory")),
            (Backing::Separate, _) => {
                let memfd = vm.create_guest_memfd(size, 0);
                (memfd.map_err(failed("create private memory of the Realm"))?, 0)
            }
        };
        let range = MemfdRange { gpa: region.start_addr().0, offset, size };
        vm.map_private(region, private.as_fd(), range).map_err(failed("give the Realm its memory"))?;
        // All of it starts out private; some kernels need to be told.
        vm.set_private(private.as_fd(), range, true).map_err(failed("make the Realm's memory private"))?;
        let pages = usize::try_from(size / PAGE).unwrap_or(usize::MAX);
        let states = vec![false; pages];
        self.slots().push(Slot { shared: Arc::clone(region), private, offset, states });
        Ok(())
    }

    /// Loads the plan from memory of its own: what is private is never in memory that the host can see, and where there
    /// is one backing there is no other place.
    pub(super) fn load_on(&self, vm: &dyn RealmVm, plan: &LaunchPlan) -> Result<Digest, Error> {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        phase.load()?;
        let rim = measure(plan, &self.launch())?;
        let options = guest_memory::Options { size: STAGING as u64, ..guest_memory::Options::default() };
        let staging = guest_memory::map(0, &options).map_err(|error| Error::Staging(error.into()))?;
        let slots = self.slots();
        for segment in plan.segments() {
            let flags = if segment.measured() { MEASURE } else { 0 };
            let mut gpa = segment.gpa();
            for part in segment.bytes().chunks(STAGING) {
                let written = staging.write_slice(part, MemoryRegionAddress(0));
                written.map_err(|error| Error::Staging(error.into()))?;
                populate(vm, &slots, gpa, &staging, part.len() as u64, flags)?;
                gpa += part.len() as u64;
            }
        }
        Ok(rim)
    }

    pub(super) fn activate_on(&self) -> Result<(), Error> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).activate()
    }

    pub(super) fn convert_on(&self, vm: &dyn RealmVm, fault: MemoryFault) -> Result<(), Error> {
        let MemoryFault { gpa, size, private } = fault;
        let gpa = self.board_address(gpa);
        let refused = Error::Fault { gpa, size };
        let mut slots = self.slots();
        let slot = slots.iter_mut().find(|slot| slot.contains(gpa));
        let Some(slot) = slot.filter(|slot| {
            let end = gpa.checked_add(size);
            let last = slot.shared.start_addr().0 + slot.shared.len();
            size > 0
                && gpa.is_multiple_of(PAGE)
                && size.is_multiple_of(PAGE)
                && end.is_some_and(|end| end <= last)
        }) else {
            return Err(refused);
        };
        let offset = gpa - slot.shared.start_addr().0;
        let range = MemfdRange { gpa, offset: slot.offset + offset, size };
        match (self.backing, private) {
            (Backing::Separate, true) => {
                guest_memory::discard(&slot.shared, offset, size).map_err(Error::Discard)?;
                vm.set_private(slot.private.as_fd(), range, true).map_err(failed("make memory private"))?;
            }
            (Backing::Separate, false) => {
                // While it is still private, so that nothing of it can appear again.
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&slot.private, flags, range.offset, size).map_err(|errno| Error::Kernel {
                    action: "give private memory back",
                    source: Errno::new(errno.raw_os_error()),
                })?;
                vm.set_private(slot.private.as_fd(), range, false).map_err(failed("share memory"))?;
            }
            // The monitor wipes what changes hands. A page is shared only when it is out of the Realm, and private only
            // when nobody else has it.
            (Backing::InPlace, true) => {
                slot.mark(offset, size, false);
                take_back(vm, slot.private.as_fd(), range)?;
            }
            (Backing::InPlace, false) => {
                vm.set_private(slot.private.as_fd(), range, false).map_err(failed("share memory"))?;
            }
        }
        slot.mark(offset, size, !private);
        Ok(())
    }

    fn launch(&self) -> LaunchParameters {
        launch_parameters(self.parameters.hash, RmmVersion::V2_0, self.ipa_bits)
    }
}

/// Loads `size` bytes at the start of `source` to `gpa`, however small the kernel's steps are.
fn populate(
    vm: &dyn RealmVm,
    slots: &[Slot],
    gpa: u64,
    source: &GuestRegionMmap,
    size: u64,
    flags: u32,
) -> Result<(), Error> {
    let mut start = 0;
    while start < size {
        let gpa = gpa + start;
        let slot = slots.iter().find(|slot| slot.contains(gpa)).ok_or(Error::Fault { gpa, size: PAGE })?;
        let left_of_slot = slot.shared.len() - (gpa - slot.shared.start_addr().0);
        let stop = size.min(start.saturating_add(left_of_slot));
        let done = vm.populate(gpa, source, start..stop, flags).map_err(failed("load the Realm"))?;
        // A kernel that makes no progress would be asked for ever.
        if done == 0 || done > stop - start || !done.is_multiple_of(PAGE) {
            return Err(Error::NoProgress { gpa, done });
        }
        start += done;
    }
    Ok(())
}

/// Makes shared memory private again where it is. The kernel refuses as long as I/O of the host goes to it.
fn take_back(vm: &dyn RealmVm, memfd: BorrowedFd<'_>, range: MemfdRange) -> Result<(), Error> {
    for _ in 1..ATTEMPTS {
        match vm.set_private(memfd, range, true) {
            Err(error) if error.errno() == EAGAIN => thread::sleep(PAUSE),
            result => return result.map_err(failed("make memory private")),
        }
    }
    vm.set_private(memfd, range, true).map_err(failed("make memory private that the host still uses"))
}

impl Slot {
    fn contains(&self, gpa: u64) -> bool {
        gpa.checked_sub(self.shared.start_addr().0).is_some_and(|offset| offset < self.shared.len())
    }

    fn pages(offset: u64, size: u64) -> std::ops::Range<usize> {
        let page = |at: u64| usize::try_from(at / PAGE).unwrap_or(usize::MAX);
        page(offset)..page(offset.saturating_add(size).saturating_add(PAGE - 1))
    }

    fn mark(&mut self, offset: u64, size: u64, shared: bool) {
        if let Some(states) = self.states.get_mut(Self::pages(offset, size)) {
            states.fill(shared);
        }
    }

    fn is_shared(&self, offset: u64, size: u64) -> bool {
        self.states.get(Self::pages(offset, size)).is_some_and(|states| !states.contains(&false))
    }
}

impl RealmBackend for Rmi {
    fn name(&self) -> &'static str {
        "cca"
    }
    fn ipa_bits(&self) -> u8 {
        self.ipa_bits
    }
    fn vm_type(&self) -> VmType {
        VmType::of(vm_type(self.ipa_bits))
    }
    fn launch_parameters(&self) -> LaunchParameters {
        self.launch()
    }
    fn configure(&self, vm: &Arc<Vm>) -> Result<(), Error> {
        // A second VM would need a second back-end.
        let _ = self.vm.set(Arc::clone(vm));
        Ok(())
    }
    fn ram_file(&self, vm: &Vm, size: u64) -> Result<Option<File>, Error> {
        self.ram_file_on(vm, size)
    }
    fn map_ram(&self, vm: &Vm, region: &Arc<GuestRegionMmap>) -> Result<(), Error> {
        self.map_on(vm, region)
    }
    /// The guest reaches devices through the unprotected alias, which the kernel strips.
    fn device_address(&self, gpa: u64) -> u64 {
        gpa
    }
    fn board_address(&self, gpa: u64) -> u64 {
        gpa & !self.shared_bit()
    }
    fn load(&self, vm: &Vm, _memory: &GuestMemoryMmap, plan: &LaunchPlan) -> Result<Digest, Error> {
        self.load_on(vm, plan)
    }
    /// vCPUs are completed at the first run.
    fn finalise_vcpu(&self, _vcpu: &mut Vcpu) -> Result<(), Error> {
        Ok(())
    }
    fn activate(&self, _vm: &Vm) -> Result<(), Error> {
        self.activate_on()
    }
    fn call(&self, _: u16, _: MonitorCall, registers: &mut dyn Registers) -> Result<(), Error> {
        // Calls to the monitor do not come here; SMCCC says -1 to one that does not exist.
        registers.set(0, u64::MAX)
    }
    fn convert(&self, fault: MemoryFault) -> Result<(), Error> {
        let vm = self.vm.get().ok_or(Error::NotLoaded)?;
        self.convert_on(vm.as_ref(), fault)
    }
    fn device_access(&self, iova: u64, len: u64) -> Result<u64, Error> {
        let gpa = self.board_address(iova);
        let slots = self.slots();
        let slot = slots.iter().find(|slot| slot.contains(gpa));
        let shared = slot.is_some_and(|slot| slot.is_shared(gpa - slot.shared.start_addr().0, len));
        if shared { Ok(gpa) } else { Err(Error::PrivateMemory { iova, len }) }
    }
}
