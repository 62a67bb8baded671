use evidence::hash::Digest;
use hypervisor::realm::{RealmVcpu, RealmVm};
use machine::kernel::Kernel;
use machine::launch::LaunchPlan;
use machine::layout::{Layout, VmKind};
use vm_memory::GuestMemoryMmap;

use vmm_sys_util::errno::Error as Errno;

use super::*;
use crate::measure;
use crate::sim::{EBUSY, EEXIST, EINVAL, ENOTTY, EPERM, MIB, VirtCcaKernel, errno_of, memory_of};

const SIZE: u64 = 256 * MIB;

struct Cvm {
    kernel: VirtCcaKernel,
    backend: VirtCca,
    memory: GuestMemoryMmap,
    plan: LaunchPlan,
}

fn parameters(vcpus: u16) -> Parameters {
    Parameters {
        hash: HashAlgorithm::Sha256,
        sve_vq: 0,
        pmu_counters: Some(1),
        user_data: UserDataLayout::Uefi,
        nodes: Vec::new(),
        vcpus,
        mmio: Region::new(0x800_0000, 0x3800_0000),
    }
}

fn direct(base: u64, initrd: Option<Vec<u8>>) -> LaunchPlan {
    let mut image = vec![0xa5; 0x1_0010];
    image[8..16].copy_from_slice(&0_u64.to_le_bytes());
    image[16..24].copy_from_slice(&MIB.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    let layout = Layout::with_ram_at(base, VmKind::Realm, SIZE, 2, IPA_BITS).unwrap();
    LaunchPlan::virtcca_direct_boot(&layout, Kernel::load(image).unwrap(), initrd, "quiet").unwrap()
}

fn firmware(base: u64) -> LaunchPlan {
    let layout = Layout::with_ram_at(base, VmKind::Realm, SIZE, 2, IPA_BITS).unwrap();
    LaunchPlan::virtcca_firmware(&layout, vec![0xd5; 9000], "").unwrap()
}

fn cvm(base: u64, initrd: Option<Vec<u8>>, parameters: Parameters) -> Cvm {
    cvm_of(direct(base, initrd), parameters)
}

fn cvm_of(plan: LaunchPlan, parameters: Parameters) -> Cvm {
    let (memory, slots) = memory_of(plan.ram());
    let kernel = VirtCcaKernel::new(slots, parameters.vcpus.into(), *plan.entry());
    let backend = VirtCca::new(&kernel, parameters).unwrap();
    Cvm { kernel, backend, memory, plan }
}

impl Cvm {
    fn launch(&self) -> Result<Digest, Error> {
        self.backend.configure_on(&self.kernel)?;
        let rim = self.backend.load_on(&self.kernel, &self.memory, &self.plan)?;
        (0..self.backend.parameters.vcpus).try_for_each(|_| self.backend.finalise_on(&self.kernel.vcpu()))?;
        self.backend.activate_on(&self.kernel)?;
        Ok(rim)
    }

    fn raw(&self, operation: u64, argument: Option<&[u8]>) -> Result<(), i32> {
        self.kernel.enable_capability(CAPABILITY, operation, argument).map_err(Errno::errno)
    }
}

#[test]
fn monitor_measures_what_the_back_end_says() {
    for base in [0x4000_0000, 0xc000_0000] {
        for initrd in [None, Some(vec![7; 5000])] {
            let cvm = cvm(base, initrd, parameters(3));
            let rim = cvm.launch().unwrap();
            assert_eq!(cvm.kernel.run().unwrap(), rim);
            assert_eq!(measure(&cvm.plan, &parameters(3).launch()).unwrap(), rim);
            assert_ne!(measure(&cvm.plan, &parameters(2).launch()).unwrap(), rim, "every vCPU is measured");
        }
    }
}

#[test]
fn firmware_is_measured_whole_and_told_where_devices_are() {
    let base = 0xc000_0000;
    let cvm = cvm_of(firmware(base), parameters(2));
    let rim = cvm.launch().unwrap();
    assert_eq!(cvm.kernel.run().unwrap(), rim);
    assert_eq!(cvm.kernel.user_data()[..5], [base, 0x20_0000, 0x800_0000, 0x3800_0000, SIZE]);
}

#[test]
fn firmware_that_the_kernel_cannot_boot_is_refused_before_it_is_asked() {
    let legacy = Parameters { user_data: UserDataLayout::Legacy, ..parameters(1) };
    let error = cvm_of(firmware(0x4000_0000), legacy).launch().unwrap_err().to_string();
    assert!(error.contains("payload.firmware") && error.contains("directly"), "{error}");
    let devices_above = Parameters { mmio: Region::new(0x3000_0000, 0x2000_0000), ..parameters(1) };
    let error = cvm_of(firmware(0x4000_0000), devices_above).launch().unwrap_err().to_string();
    assert!(error.contains("below the memory"), "{error}");
}

#[test]
fn configuration_items_reach_the_monitor() {
    let parameters =
        Parameters { hash: HashAlgorithm::Sha512, sve_vq: 2, pmu_counters: None, ..parameters(1) };
    let cvm = cvm(0x4000_0000, None, parameters);
    let rim = cvm.launch().unwrap();
    assert_eq!(cvm.kernel.run().unwrap(), rim);
    assert_eq!(rim.as_bytes().len(), 64);
}

#[test]
fn older_kernels_take_the_other_user_data() {
    let legacy = Parameters { user_data: UserDataLayout::Legacy, ..parameters(1) };
    let mut old = cvm(0xc000_0000, Some(vec![1; 9]), legacy);
    old.kernel.uefi = false;
    assert_eq!(old.launch().unwrap(), old.kernel.run().unwrap());
    let mut wrong = cvm(0xc000_0000, Some(vec![1; 9]), parameters(1));
    wrong.kernel.uefi = false;
    assert_eq!(wrong.launch().map_err(errno_of), Err(Some(EINVAL)));
}

#[test]
fn user_data_has_the_layout_that_the_kernel_reads() {
    let node = NumaNode {
        id: 1,
        memory: Region::new(0x4000_0000, SIZE),
        host_nodes: [1, 0],
        vcpus: [0b11, 0, 0, 0],
    };
    let dtb = Region::new(0x4840_0000, 0x20_0000);
    let direct = Flavour::Direct { image_end: 0x4050_0000, initrd: 0x4800_0000, dtb, end: dtb.end() };
    let ram = Region::new(0x4000_0000, SIZE);
    let words = |flavour, layout| {
        let bytes = UserData { flavour, ram, nodes: &[node] }.encode(layout).unwrap();
        assert_eq!(bytes.len(), 624);
        bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect::<Vec<_>>()
    };
    let old = words(direct, UserDataLayout::Legacy);
    assert_eq!(old[..6], [0x4000_0000, 0x4050_0000, 0x4800_0000, 0x4860_0000, SIZE, 1]);
    assert_eq!(old[6..15], [1, 0x4000_0000, SIZE, 1, 0, 0b11, 0, 0, 0]);
    assert!(old[15..].iter().all(|&word| word == 0));
    let new = words(direct, UserDataLayout::Uefi);
    assert_eq!(new[..5], [0x4000_0000, 1, 0x4840_0000, 0x20_0000, SIZE]);
    let mmio = Region::new(0x800_0000, 0x3800_0000);
    let uefi = words(Flavour::Uefi { mmio }, UserDataLayout::Uefi);
    assert_eq!(uefi[..5], [0x4000_0000, 0x20_0000, 0x800_0000, 0x3800_0000, SIZE]);

    let refused = |flavour, layout, nodes: &[NumaNode]| {
        UserData { flavour, ram, nodes }.encode(layout).unwrap_err().to_string()
    };
    assert!(refused(Flavour::Uefi { mmio }, UserDataLayout::Legacy, &[]).contains("firmware"));
    let above = Flavour::Uefi { mmio: Region::new(0x4000_0000, 4096) };
    assert!(refused(above, UserDataLayout::Uefi, &[]).contains("below"));
    let short = NumaNode { memory: Region::new(0x4000_0000, MIB), ..node };
    assert!(refused(direct, UserDataLayout::Uefi, &[short]).contains("add up"));
    assert!(refused(direct, UserDataLayout::Uefi, &[node; 9]).contains("8 nodes"));
}

#[test]
fn kernel_refuses_every_wrong_order() {
    let fresh = || cvm(0x4000_0000, None, parameters(1));
    let populate = |words: [u64; 4], flags: u32| {
        let mut bytes = words.map(u64::to_le_bytes).concat();
        bytes.extend(flags.to_le_bytes());
        bytes.resize(48, 0);
        bytes
    };
    let image = populate([0x4000_0000, 0x20_0000, 0x4800_0000, 0x20_0000], 1);
    let data = |cvm: &Cvm| {
        let Image { ram, first, second, dtb, .. } = Image::of(&cvm.plan).unwrap();
        let flavour = Flavour::Direct { image_end: first.end(), initrd: second.base, dtb, end: second.end() };
        UserData { flavour, ram, nodes: &[] }.encode(UserDataLayout::Uefi).unwrap()
    };
    let user_data = |cvm: &Cvm, bytes: &[u8]| cvm.kernel.load_user_data(bytes).map_err(Errno::errno);
    let finalize = |cvm: &Cvm, feature| cvm.kernel.vcpu().finalize(feature).map_err(Errno::errno);

    for (operation, argument) in [(2, Some(&image[..])), (3, None)] {
        assert_eq!(fresh().raw(operation, argument), Err(EPERM), "before creation: {operation}");
    }
    assert_eq!(user_data(&fresh(), &data(&fresh())), Err(EPERM));
    assert_eq!(finalize(&fresh(), 8), Err(EPERM));
    assert_eq!(fresh().raw(4, None), Err(EINVAL), "no such operation: INIT_IPA is not one here");
    assert_eq!(fresh().raw(0, Some(&[0; 8])), Err(EINVAL));
    assert_eq!(fresh().kernel.run().map_err(Errno::errno), Err(EPERM));

    let cvm = fresh();
    cvm.backend.configure_on(&cvm.kernel).unwrap();
    assert_eq!(cvm.backend.configure_on(&cvm.kernel).map_err(errno_of), Err(Some(EBUSY)));
    assert_eq!(cvm.raw(1, None), Err(EEXIST));
    assert_eq!(cvm.raw(2, Some(&image)), Err(EPERM), "no user data so far");
    assert_eq!(user_data(&cvm, &[0; 600]), Err(ENOTTY), "another length is another request");
    let mut unaligned = data(&cvm);
    unaligned[16] = 1;
    assert_eq!(user_data(&cvm, &unaligned), Err(EINVAL));
    user_data(&cvm, &data(&cvm)).unwrap();
    for wrong in [
        populate([0x4000_0001, 0x20_0000, 0x4800_0000, 0x20_0000], 1),
        populate([0x4000_0000, 0, 0x4800_0000, 0x20_0000], 1),
        populate([0x4000_0000, 0x20_0000, 0x4010_0000, 0x20_0000], 1),
        populate([0x4000_0000, 0x20_0000, 0x4800_0000, 0x40_0000], 1),
        populate([0x4000_0000, 0x20_0000, 0x4800_0000, 0x20_0000], 0),
    ] {
        assert_eq!(cvm.raw(2, Some(&wrong)), Err(EINVAL), "{wrong:?}");
    }
    assert_eq!(finalize(&cvm, 8), Err(EPERM), "the image comes first");
    cvm.raw(2, Some(&image)).unwrap();
    assert_eq!(cvm.raw(2, Some(&image)), Err(EEXIST));
    assert_eq!(cvm.raw(3, None), Err(EPERM), "a vCPU is missing");
    assert_eq!(finalize(&cvm, 9), Err(EINVAL));
    finalize(&cvm, 8).unwrap();
    assert_eq!(finalize(&cvm, 8), Err(EPERM));
    cvm.raw(3, None).unwrap();
    assert_eq!(cvm.raw(3, None), Err(EPERM));
}

#[test]
fn host_without_virtcca_is_told_from_one_that_has_it() {
    struct Plain(bool);
    impl RealmHost for Plain {
        fn ipa_limit(&self) -> u32 {
            48
        }
        fn can_create(&self, _: u64) -> bool {
            self.0
        }
        fn check_extension(&self, _: u32) -> i32 {
            i32::from(!self.0)
        }
    }
    for host in [Plain(false), Plain(true)] {
        let error = VirtCca::new(&host, parameters(1)).unwrap_err();
        assert!(error.to_string().contains("virtcca"), "{error}");
    }
}

#[test]
fn plan_without_a_stub_is_refused() {
    let cvm = cvm(0x4000_0000, None, parameters(1));
    cvm.backend.configure_on(&cvm.kernel).unwrap();
    let other = crate::sim::plan(0x4000_0000, SIZE);
    let refused = cvm.backend.load_on(&cvm.kernel, &cvm.memory, &other);
    assert!(matches!(refused, Err(Error::Incomplete("stub"))), "{refused:?}");
}

#[test]
fn guest_needs_arguments_that_can_be_seen() {
    let text = kernel_arguments(65536);
    assert!(text.contains("virtcca_cvm_guest=1") && text.contains("swiotlb=65536,force"), "{text}");
}
