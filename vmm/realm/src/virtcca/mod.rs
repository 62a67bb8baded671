//! Confidential VMs on openEuler's KVM with Huawei virtCCA.
//!
//! The interface looks like that of early CCA patches, and is not: the sub-operations have other numbers, the kernel is
//! told of the whole image at once (`KVM_LOAD_USER_DATA`), and shared memory is marked in the guest's page tables rather
//! than by an address.

#[cfg(test)]
mod tests;
mod user_data;

use std::sync::{Arc, Mutex, PoisonError};

use evidence::hash::{Digest, HashAlgorithm};
use evidence::tmm::CvmParams;
use hypervisor::realm::{RealmHost, RealmVcpu, RealmVm};
use hypervisor::{MemoryFault, Vcpu, Vm, VmType};
use machine::launch::{FIRMWARE, LaunchPlan, Segment};
use machine::layout::{BLOCK_SIZE, Region};
use vm_memory::{GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

pub use user_data::{Flavour, NumaNode, UserData, UserDataLayout};

use crate::kernel::{Phase, failed, write_plan};
use crate::{Error, LaunchParameters, MonitorCall, RealmBackend, Registers, measure};

/// `KVM_CAP_ARM_TMM`.
pub(crate) const CAPABILITY: u32 = 300;

pub(crate) const CONFIG: u64 = 0;
pub(crate) const CREATE_RD: u64 = 1;
pub(crate) const POPULATE: u64 = 2;
pub(crate) const ACTIVATE: u64 = 3;
pub(crate) const CONFIG_HASH: u32 = 1;
pub(crate) const CONFIG_SVE: u32 = 2;
pub(crate) const CONFIG_PMU: u32 = 4;
pub(crate) const CONFIG_ITEM: usize = 4 + 256;
/// `KVM_ARM_VCPU_TEC`.
pub(crate) const VCPU_TEC: u32 = 8;

/// Width of the address space in bits, the one that a TMM measures.
pub const IPA_BITS: u8 = 40;

/// Arguments that a guest kernel needs, with a bounce buffer of so many slots of 2 KiB.
#[must_use]
pub fn kernel_arguments(swiotlb: u32) -> String {
    format!("virtcca_cvm_guest=1 cvm_guest=1 swiotlb={swiotlb},force cma=64M")
}

/// What a confidential VM is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Hash of the measurement registers.
    pub hash: HashAlgorithm,
    /// SVE vector length in units of 128 bits; 0 without SVE.
    pub sve_vq: u8,
    /// PMU counters; `None` without a PMU.
    pub pmu_counters: Option<u8>,
    /// Which structure the kernel takes.
    pub user_data: UserDataLayout,
    /// NUMA nodes of the guest and the host's nodes that back them.
    pub nodes: Vec<NumaNode>,
    /// Number of vCPUs.
    pub vcpus: u16,
    /// The addresses of devices below RAM, of which firmware is told.
    pub mmio: Region,
}

impl Parameters {
    /// What is measured of them.
    #[must_use]
    pub const fn launch(&self) -> LaunchParameters {
        LaunchParameters::Tmm {
            cvm: CvmParams { sve_vq: self.sve_vq, pmu_counters: self.pmu_counters, hash: self.hash },
            vcpus: self.vcpus,
        }
    }
}

/// A confidential VM.
#[derive(Debug)]
pub struct VirtCca {
    parameters: Parameters,
    phase: Mutex<Phase>,
}

fn vm_type(ipa_bits: u8) -> u64 {
    0x100 | u64::from(ipa_bits)
}

impl VirtCca {
    /// A confidential VM that is not created yet, on a host that can have it.
    ///
    /// # Errors
    ///
    /// [`Error::NoHost`].
    pub fn new(host: &dyn RealmHost, parameters: Parameters) -> Result<Self, Error> {
        if host.check_extension(CAPABILITY) <= 0 || !host.can_create(vm_type(IPA_BITS)) {
            return Err(Error::NoHost {
                backend: "virtcca",
                needed: "openEuler's kernel with virtCCA on a Kunpeng machine whose firmware has a TMM",
            });
        }
        Ok(Self { parameters, phase: Mutex::default() })
    }

    fn operation(
        vm: &dyn RealmVm,
        operation: u64,
        argument: Option<&[u8]>,
        action: &'static str,
    ) -> Result<(), Error> {
        vm.enable_capability(CAPABILITY, operation, argument).map_err(failed(action))
    }

    fn configure_on(&self, vm: &dyn RealmVm) -> Result<(), Error> {
        let Parameters { hash, sve_vq, pmu_counters, .. } = &self.parameters;
        let hash: u32 = if *hash == HashAlgorithm::Sha512 { 1 } else { 0 };
        Self::operation(vm, CONFIG, Some(&item(CONFIG_HASH, hash)), "set the hash algorithm")?;
        if *sve_vq > 0 {
            let item = item(CONFIG_SVE, u32::from(*sve_vq));
            Self::operation(vm, CONFIG, Some(&item), "set the SVE vector length")?;
        }
        if let Some(counters) = *pmu_counters {
            let item = item(CONFIG_PMU, u32::from(counters));
            Self::operation(vm, CONFIG, Some(&item), "set the number of PMU counters")?;
        }
        Self::operation(vm, CREATE_RD, None, "create the confidential VM")
    }

    fn load_on(
        &self,
        vm: &dyn RealmVm,
        memory: &GuestMemoryMmap,
        plan: &LaunchPlan,
    ) -> Result<Digest, Error> {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        phase.load()?;
        let rim = measure(plan, &self.parameters.launch())?;
        write_plan(memory, plan)?;
        let image = Image::of(plan)?;
        let data = UserData {
            flavour: image.flavour(self.parameters.mmio),
            ram: image.ram,
            nodes: &self.parameters.nodes,
        };
        let bytes = data.encode(self.parameters.user_data)?;
        vm.load_user_data(&bytes).map_err(failed("tell the kernel of the image (KVM_LOAD_USER_DATA)"))?;
        let argument = populate_argument(image.first, image.second);
        Self::operation(vm, POPULATE, Some(&argument), "load the confidential VM")?;
        Ok(rim)
    }

    fn finalise_on(&self, vcpu: &dyn RealmVcpu) -> Result<(), Error> {
        vcpu.finalize(VCPU_TEC).map_err(failed("complete a vCPU of the confidential VM"))
    }

    fn activate_on(&self, vm: &dyn RealmVm) -> Result<(), Error> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).activate()?;
        Self::operation(vm, ACTIVATE, None, "activate the confidential VM")
    }
}

/// The two ranges of an image: stub and kernel, and RAM disk and device tree; or firmware, and the device tree.
struct Image {
    ram: Region,
    first: Region,
    second: Region,
    dtb: Region,
    firmware: bool,
}

impl Image {
    fn of(plan: &LaunchPlan) -> Result<Self, Error> {
        let find = |name| plan.segments().iter().find(|segment| segment.name() == name).map(Segment::region);
        let part = |name: &'static str| find(name).ok_or(Error::Incomplete(name));
        let dtb = part("dtb")?;
        let ram = plan.ram().iter().find(|ram| ram.contains(&dtb)).copied();
        let ram = ram.ok_or(Error::Incomplete("RAM"))?;
        if let Some(first) = find(FIRMWARE) {
            return Ok(Self { ram, first, second: dtb, dtb, firmware: true });
        }
        let (stub, kernel) = (part("stub")?, part("kernel")?);
        let second = find("initrd").map_or(dtb.base, |initrd| initrd.base);
        Ok(Self {
            ram,
            first: Region::new(stub.base, kernel.end() - stub.base),
            second: Region::new(second, dtb.end() - second),
            dtb,
            firmware: false,
        })
    }

    fn flavour(&self, mmio: Region) -> Flavour {
        if self.firmware {
            return Flavour::Uefi { mmio };
        }
        Flavour::Direct {
            image_end: self.first.end(),
            initrd: self.second.base,
            dtb: self.dtb,
            end: self.second.end(),
        }
    }
}

fn item(kind: u32, value: u32) -> [u8; CONFIG_ITEM] {
    let mut item = [0; CONFIG_ITEM];
    for (byte, value) in item.iter_mut().zip(kind.to_le_bytes().into_iter().chain(value.to_le_bytes())) {
        *byte = value;
    }
    item
}

/// `u64 ipa_base1, ipa_size1, ipa_base2, ipa_size2; u32 flags; u32 reserved[3]`.
fn populate_argument(first: Region, second: Region) -> [u8; 48] {
    const MEASURE: u32 = 1;
    let mut argument = [0; 48];
    let words = [first.base, first.size, second.base, second.size].map(u64::to_le_bytes);
    let bytes = words.as_flattened().iter().copied().chain(MEASURE.to_le_bytes());
    for (slot, byte) in argument.iter_mut().zip(bytes) {
        *slot = byte;
    }
    argument
}

impl RealmBackend for VirtCca {
    fn name(&self) -> &'static str {
        "virtcca"
    }
    fn ipa_bits(&self) -> u8 {
        IPA_BITS
    }
    fn vm_type(&self) -> VmType {
        VmType::of(vm_type(IPA_BITS))
    }
    fn vcpu_features(&self) -> u32 {
        1 << VCPU_TEC
    }
    fn launch_parameters(&self) -> LaunchParameters {
        self.parameters.launch()
    }
    fn configure(&self, vm: &Arc<Vm>) -> Result<(), Error> {
        self.configure_on(vm.as_ref())
    }
    fn map_ram(&self, vm: &Vm, region: &Arc<GuestRegionMmap>) -> Result<(), Error> {
        let (gpa, size) = (region.start_addr().0, region.len());
        if !gpa.is_multiple_of(BLOCK_SIZE) || !size.is_multiple_of(BLOCK_SIZE) {
            return Err(Error::Fault { gpa, size });
        }
        Ok(vm.map_memory(gpa, region)?)
    }
    /// Addresses have no alias: what is shared is marked in the guest's page tables.
    fn device_address(&self, gpa: u64) -> u64 {
        gpa
    }
    fn board_address(&self, gpa: u64) -> u64 {
        gpa
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
    /// What devices see of secure memory is not the guest's: the hardware keeps them apart.
    fn device_access(&self, iova: u64, _len: u64) -> Result<u64, Error> {
        Ok(iova)
    }
}
