//! The interface of KVM's CCA patches from v14 on: memory is populated, everything else happens at the first run.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use evidence::hash::Digest;
use evidence::rmm::RmmVersion;
use hypervisor::realm::{MemfdRange, RealmVm};
use hypervisor::{MemoryFault, Vcpu, Vm, VmType};
use machine::launch::LaunchPlan;
use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::{GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

use super::{Parameters, check, launch_parameters};
use crate::kernel::{Phase, failed, write_plan};
use crate::{Error, LaunchParameters, MonitorCall, RealmBackend, Registers, measure};

/// `KVM_ARM_RMI_POPULATE_FLAGS_MEASURE`.
pub(crate) const MEASURE: u32 = 1;
const PAGE: u64 = 4096;

/// `KVM_VM_TYPE_ARM_REALM`.
pub(super) fn vm_type(ipa_bits: u8) -> u64 {
    1 << 30 | u64::from(ipa_bits)
}

/// A Realm on such a kernel.
#[derive(Debug)]
pub struct Rmi {
    ipa_bits: u8,
    parameters: Parameters,
    phase: Mutex<Phase>,
    slots: Mutex<Vec<Slot>>,
    vm: OnceLock<Arc<Vm>>,
}

/// RAM with its two backings.
#[derive(Debug)]
struct Slot {
    /// What the guest shares.
    shared: Arc<GuestRegionMmap>,
    /// What it keeps to itself.
    private: OwnedFd,
    /// The pages that are shared now.
    states: Vec<bool>,
}

impl Rmi {
    /// A Realm that is not created yet.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for what such a kernel cannot give.
    pub fn new(ipa_bits: u8, parameters: Parameters) -> Result<Self, Error> {
        check(RmmVersion::V2_0, &parameters)?;
        Ok(Self {
            ipa_bits,
            parameters,
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

    pub(super) fn map_on(&self, vm: &dyn RealmVm, region: &Arc<GuestRegionMmap>) -> Result<(), Error> {
        let size = region.len();
        let private = vm.create_guest_memfd(size).map_err(failed("create private memory of the Realm"))?;
        let range = MemfdRange { gpa: region.start_addr().0, offset: 0, size };
        vm.map_private(region, private.as_fd(), range).map_err(failed("give the Realm its memory"))?;
        // All of it starts out private; some kernels need to be told.
        vm.set_private(private.as_fd(), range, true).map_err(failed("make the Realm's memory private"))?;
        let pages = usize::try_from(size / PAGE).unwrap_or(usize::MAX);
        self.slots().push(Slot { shared: Arc::clone(region), private, states: vec![false; pages] });
        Ok(())
    }

    pub(super) fn load_on(
        &self,
        vm: &dyn RealmVm,
        memory: &GuestMemoryMmap,
        plan: &LaunchPlan,
    ) -> Result<Digest, Error> {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        phase.load()?;
        let rim = measure(plan, &self.launch())?;
        write_plan(memory, plan)?;
        let slots = self.slots();
        for segment in plan.segments() {
            let flags = if segment.measured() { MEASURE } else { 0 };
            let (mut gpa, end) = (segment.gpa(), segment.region().end());
            while gpa < end {
                let slot =
                    slots.iter().find(|slot| slot.contains(gpa)).ok_or(Error::Fault { gpa, size: PAGE })?;
                let start = gpa - slot.shared.start_addr().0;
                let stop = slot.shared.len().min(start + (end - gpa));
                let done =
                    vm.populate(gpa, &slot.shared, start..stop, flags).map_err(failed("load the Realm"))?;
                // A kernel that makes no progress would be asked for ever.
                if done == 0 || done > stop - start || !done.is_multiple_of(PAGE) {
                    return Err(Error::NoProgress { gpa, done });
                }
                // The shared copy has served its purpose, and what is in it is not the guest's.
                guest_memory::discard(&slot.shared, start, done).map_err(Error::Discard)?;
                gpa += done;
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
        let range = MemfdRange { gpa, offset, size };
        if private {
            guest_memory::discard(&slot.shared, offset, size).map_err(Error::Discard)?;
            vm.set_private(slot.private.as_fd(), range, true).map_err(failed("make memory private"))?;
        } else {
            // While it is still private, so that nothing of it can appear again.
            fallocate(&slot.private, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, size)
                .map_err(|errno| Error::Kernel {
                    action: "give private memory back",
                    source: vmm_sys_util::errno::Error::new(errno.raw_os_error()),
                })?;
            vm.set_private(slot.private.as_fd(), range, false).map_err(failed("share memory"))?;
        }
        slot.mark(offset, size, !private);
        Ok(())
    }

    fn launch(&self) -> LaunchParameters {
        launch_parameters(self.parameters.hash, RmmVersion::V2_0, self.ipa_bits)
    }
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
    fn load(&self, vm: &Vm, memory: &GuestMemoryMmap, plan: &LaunchPlan) -> Result<Digest, Error> {
        self.load_on(vm, memory, plan)
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
