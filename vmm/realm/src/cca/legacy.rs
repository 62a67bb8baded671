//! The interface of KVM's CCA patches up to v10: sub-operations of `KVM_CAP_ARM_RME`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use evidence::hash::{Digest, HashAlgorithm};
use evidence::rmm::RmmVersion;
use hypervisor::realm::{RealmVcpu, RealmVm};
use hypervisor::{MemoryFault, Vcpu, Vm, VmType};
use machine::launch::LaunchPlan;
use vm_memory::{GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

use super::{Parameters, launch_parameters};
use crate::kernel::{Phase, failed, write_plan};
use crate::{Error, LaunchParameters, MonitorCall, RealmBackend, Registers, measure};

/// Numbers that `KVM_CAP_ARM_RME` has had.
pub(super) const CAPABILITIES: [u32; 2] = [300, 240];

pub(crate) const CONFIG: u64 = 0;
pub(crate) const CREATE_RD: u64 = 1;
pub(crate) const INIT_IPA: u64 = 2;
pub(crate) const POPULATE: u64 = 3;
pub(crate) const ACTIVATE: u64 = 4;

pub(crate) const CONFIG_RPV: u32 = 0;
pub(crate) const CONFIG_HASH: u32 = 1;
/// `u32 cfg` and a union that is padded to 256 bytes.
pub(crate) const CONFIG_ITEM: usize = 4 + 256;
pub(crate) const POPULATE_MEASURE: u32 = 1;
/// `KVM_ARM_VCPU_REC`.
pub(crate) const VCPU_REC: u32 = 8;

/// `KVM_VM_TYPE_ARM_REALM` in bits 8 to 11.
pub(super) fn vm_type(ipa_bits: u8) -> u64 {
    0x100 | u64::from(ipa_bits)
}

/// A Realm on such a kernel.
#[derive(Debug)]
pub struct Legacy {
    capability: u32,
    ipa_bits: u8,
    parameters: Parameters,
    phase: Mutex<Phase>,
    vm: OnceLock<Arc<Vm>>,
}

impl Legacy {
    /// A Realm that is not created yet.
    #[must_use]
    pub fn new(capability: u32, ipa_bits: u8, parameters: Parameters) -> Self {
        Self { capability, ipa_bits, parameters, phase: Mutex::default(), vm: OnceLock::new() }
    }

    /// Address bit of the half that the host sees.
    const fn shared_bit(&self) -> u64 {
        1 << (self.ipa_bits - 1)
    }

    fn operation(
        &self,
        vm: &dyn RealmVm,
        operation: u64,
        argument: Option<&[u8]>,
        action: &'static str,
    ) -> Result<(), Error> {
        vm.enable_capability(self.capability, operation, argument).map_err(failed(action))
    }

    pub(super) fn configure_on(&self, vm: &dyn RealmVm) -> Result<(), Error> {
        let hash: u32 = match self.parameters.hash {
            HashAlgorithm::Sha512 => 1,
            _ => 0,
        };
        let item = config_item(CONFIG_HASH, &hash.to_le_bytes());
        self.operation(vm, CONFIG, Some(&item), "set the Realm's hash algorithm")?;
        let item = config_item(CONFIG_RPV, &self.parameters.rpv);
        self.operation(vm, CONFIG, Some(&item), "set the Realm's personalisation value")
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
        self.operation(vm, CREATE_RD, None, "create the Realm")?;
        // RIPAS before data: RMM 1.0 does not initialise what is assigned already.
        for region in plan.ram() {
            let argument = range_argument(region.base, region.size, 0);
            self.operation(vm, INIT_IPA, Some(&argument[..32]), "give the Realm its memory")?;
        }
        for segment in plan.segments() {
            let flags = if segment.measured() { POPULATE_MEASURE } else { 0 };
            let argument = range_argument(segment.gpa(), segment.region().size, flags);
            self.operation(vm, POPULATE, Some(&argument), "load the Realm")?;
        }
        Ok(rim)
    }

    pub(super) fn finalise_on(&self, vcpu: &dyn RealmVcpu) -> Result<(), Error> {
        vcpu.finalize(VCPU_REC).map_err(failed("complete a vCPU of the Realm"))
    }

    pub(super) fn activate_on(&self, vm: &dyn RealmVm) -> Result<(), Error> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).activate()?;
        self.operation(vm, ACTIVATE, None, "activate the Realm")
    }

    fn launch(&self) -> LaunchParameters {
        launch_parameters(self.parameters.hash, RmmVersion::V1_0, self.ipa_bits)
    }
}

fn config_item(kind: u32, payload: &[u8]) -> [u8; CONFIG_ITEM] {
    let mut item = [0; CONFIG_ITEM];
    for (byte, &value) in item.iter_mut().zip(kind.to_le_bytes().iter().chain(payload)) {
        *byte = value;
    }
    item
}

/// `u64 base, size; u32 flags; u32 reserved[3]`. INIT_IPA has the same without flags, `u32 reserved[4]`.
fn range_argument(base: u64, size: u64, flags: u32) -> [u8; 32] {
    let mut argument = [0; 32];
    let bytes = base.to_le_bytes().into_iter().chain(size.to_le_bytes()).chain(flags.to_le_bytes());
    for (slot, byte) in argument.iter_mut().zip(bytes) {
        *slot = byte;
    }
    argument
}

impl RealmBackend for Legacy {
    fn name(&self) -> &'static str {
        "cca"
    }
    fn ipa_bits(&self) -> u8 {
        self.ipa_bits
    }
    fn vm_type(&self) -> VmType {
        VmType::of(vm_type(self.ipa_bits))
    }
    fn vcpu_features(&self) -> u32 {
        1 << VCPU_REC
    }
    fn launch_parameters(&self) -> LaunchParameters {
        self.launch()
    }
    fn configure(&self, vm: &Arc<Vm>) -> Result<(), Error> {
        // A second VM would need a second back-end.
        let _ = self.vm.set(Arc::clone(vm));
        self.configure_on(vm.as_ref())
    }
    fn map_ram(&self, vm: &Vm, region: &Arc<GuestRegionMmap>) -> Result<(), Error> {
        Ok(vm.map_memory(region.start_addr().0, region)?)
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
    fn finalise_vcpu(&self, vcpu: &mut Vcpu) -> Result<(), Error> {
        self.finalise_on(vcpu)
    }
    fn activate(&self, vm: &Vm) -> Result<(), Error> {
        self.activate_on(vm)
    }
    fn call(&self, _: u16, _: MonitorCall, registers: &mut dyn Registers) -> Result<(), Error> {
        // Calls to the monitor do not come here; SMCCC says -1 to one that does not exist.
        registers.set(0, u64::MAX)
    }
    /// The kernel converts memory itself.
    fn convert(&self, fault: MemoryFault) -> Result<(), Error> {
        Err(Error::Fault { gpa: fault.gpa, size: fault.size })
    }
    /// What devices see of private memory is not the guest's: the hardware keeps them apart.
    fn device_access(&self, iova: u64, _len: u64) -> Result<u64, Error> {
        Ok(self.board_address(iova))
    }
}
