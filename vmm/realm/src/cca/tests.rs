use std::sync::Arc;

use evidence::hash::Digest;
use hypervisor::MemoryFault;
use hypervisor::realm::{MemfdRange, RealmVcpu, RealmVm};
use machine::launch::LaunchPlan;
use std::os::fd::AsFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use vmm_sys_util::errno::Error as Errno;

use super::*;
use crate::sim::{
    EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENXIO, EPERM, LegacyKernel, MIB, RmiKernel, errno_of, memory, plan,
};
use crate::{RealmBackend, measure};

const BASE: u64 = 0x4000_0000;
const SIZE: u64 = 8 * MIB;
const BITS: u8 = 40;

const SHA256: Parameters = Parameters { hash: HashAlgorithm::Sha256, rpv: [0; 64] };

struct OldRealm {
    kernel: LegacyKernel,
    realm: Legacy,
    memory: GuestMemoryMmap,
    plan: LaunchPlan,
}

fn old(parameters: Parameters, vcpus: usize) -> OldRealm {
    let (memory, slots) = memory(BASE, SIZE);
    let plan = plan(BASE, SIZE);
    let kernel = LegacyKernel::new(BITS, slots, vcpus, *plan.entry());
    OldRealm { kernel, realm: Legacy::new(300, BITS, parameters), memory, plan }
}

impl OldRealm {
    fn launch(&self, vcpus: usize) -> Result<Digest, Error> {
        self.realm.configure_on(&self.kernel)?;
        let rim = self.realm.load_on(&self.kernel, &self.memory, &self.plan)?;
        (0..vcpus).try_for_each(|_| self.realm.finalise_on(&self.kernel.vcpu()))?;
        self.realm.activate_on(&self.kernel)?;
        Ok(rim)
    }

    fn raw(&self, operation: u64, argument: Option<&[u8]>) -> Result<(), i32> {
        self.kernel.enable_capability(300, operation, argument).map_err(Errno::errno)
    }
}

#[test]
fn generation_is_found_by_trying() {
    let entry = *plan(BASE, SIZE).entry();
    let new = RmiKernel::new(39, entry);
    assert_eq!(Generation::probe(&new, 39).unwrap(), Generation::Rmi);
    let narrow = Generation::probe(&new, BITS).unwrap_err();
    assert!(matches!(narrow, Error::IpaWidth { asked: 40, widest: 39 }), "{narrow}");
    let OldRealm { kernel, .. } = old(SHA256, 1);
    assert_eq!(Generation::probe(&kernel, BITS).unwrap(), Generation::Legacy { capability: 300 });
    assert_eq!(Generation::Rmi.rmm(), RmmVersion::V2_0);

    struct Plain;
    impl RealmHost for Plain {
        fn ipa_limit(&self) -> u32 {
            40
        }
        fn can_create(&self, _: u64) -> bool {
            false
        }
        fn check_extension(&self, _: u32) -> i32 {
            1
        }
    }
    let error = Generation::probe(&Plain, BITS).unwrap_err();
    assert!(error.to_string().contains("realm.backend soft"), "{error}");
}

#[test]
fn old_kernel_measures_what_the_back_end_says() {
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha512] {
        let mut rpv = [0; 64];
        rpv[0] = 7;
        let old = old(Parameters { hash, rpv }, 3);
        let rim = old.launch(3).unwrap();
        assert_eq!(old.kernel.run().unwrap(), rim);
        assert_eq!(old.kernel.rpv(), rpv);
        let offline = measure(&old.plan, &launch_parameters(hash, RmmVersion::V1_0, BITS)).unwrap();
        assert_eq!(offline, rim);
    }
}

#[test]
fn old_kernel_refuses_every_wrong_order() {
    let range = |base: u64, size: u64, flags: u32| {
        let mut bytes = [base.to_le_bytes(), size.to_le_bytes()].concat();
        bytes.extend(flags.to_le_bytes());
        bytes.resize(32, 0);
        bytes
    };
    let item = |kind: u32| [&kind.to_le_bytes()[..], &[0; 256]].concat();
    let ram = range(BASE, SIZE, 0);
    let page = range(BASE, 4096, 1);
    let fresh = || old(SHA256, 1);

    // Before there is a Realm.
    for (operation, argument) in [(2, Some(&ram[..])), (3, Some(&page[..])), (4, None)] {
        assert_eq!(fresh().raw(operation, argument), Err(EPERM), "operation {operation}");
    }
    assert_eq!(fresh().kernel.vcpu().finalize(8).map_err(Errno::errno), Err(EPERM));
    assert_eq!(fresh().kernel.run().map_err(Errno::errno), Err(EPERM));
    // Wrong numbers, sizes and alignments.
    assert_eq!(fresh().raw(9, None), Err(EINVAL));
    assert_eq!(fresh().raw(0, Some(&[0; 12])), Err(EINVAL));
    assert_eq!(fresh().raw(0, None), Err(EINVAL));
    assert_eq!(fresh().raw(0, Some(&item(5))), Err(EINVAL));
    let wrong_capability = fresh().kernel.enable_capability(240, 1, None).map_err(Errno::errno);
    assert_eq!(wrong_capability, Err(EINVAL));

    let created = fresh();
    created.raw(1, None).unwrap();
    assert_eq!(created.raw(1, None), Err(EEXIST));
    assert_eq!(created.raw(0, Some(&item(0))), Err(EBUSY), "too late to configure");
    assert_eq!(created.raw(3, Some(&page)), Err(EINVAL), "no RIPAS so far");
    for wrong in [range(BASE + 1, 4096, 0), range(BASE, 100, 0), range(BASE, 0, 0), range(1 << 39, 4096, 0)] {
        assert_eq!(created.raw(2, Some(&wrong)), Err(EINVAL));
    }
    created.raw(2, Some(&ram)).unwrap();
    for wrong in [range(BASE, 100, 1), range(BASE, 4096, 2), range(BASE + 8, 4096, 1)] {
        assert_eq!(created.raw(3, Some(&wrong)), Err(EINVAL));
    }
    created.raw(3, Some(&page)).unwrap();
    assert_eq!(created.raw(3, Some(&page)), Err(EINVAL), "assigned already");
    assert_eq!(created.raw(2, Some(&ram)), Err(EINVAL), "RIPAS comes before data");
    assert_eq!(created.raw(4, None), Err(EPERM), "a vCPU is missing");
    assert_eq!(created.kernel.vcpu().finalize(4).map_err(Errno::errno), Err(EINVAL));
    created.kernel.vcpu().finalize(8).unwrap();
    assert_eq!(created.kernel.vcpu().finalize(8).map_err(Errno::errno), Err(EPERM));
    created.raw(4, None).unwrap();
    for (operation, argument) in [(2, Some(&ram[..])), (3, Some(&page[..])), (4, None)] {
        assert_eq!(created.raw(operation, argument), Err(EPERM), "it runs: operation {operation}");
    }
}

#[test]
fn back_end_for_old_kernels_tells_what_the_kernel_refused() {
    let late = old(SHA256, 1);
    late.launch(1).unwrap();
    assert_eq!(late.realm.configure_on(&late.kernel).map_err(errno_of), Err(Some(EBUSY)));
    let again = late.realm.load_on(&late.kernel, &late.memory, &late.plan);
    assert!(matches!(again, Err(Error::AlreadyLoaded)));
    assert!(matches!(late.realm.activate_on(&late.kernel), Err(Error::NotLoaded)));
    let missing = old(SHA256, 2);
    assert_eq!(missing.launch(1).map_err(errno_of), Err(Some(EPERM)), "a vCPU is missing");
    let unloaded = old(SHA256, 1);
    assert!(matches!(unloaded.realm.activate_on(&unloaded.kernel), Err(Error::NotLoaded)));
}

struct NewRealm {
    kernel: RmiKernel,
    realm: Rmi,
    memory: GuestMemoryMmap,
    slots: Vec<Arc<GuestRegionMmap>>,
    plan: LaunchPlan,
}

const BACKINGS: [Backing; 2] = [Backing::Separate, Backing::InPlace];

fn new(backing: Backing) -> NewRealm {
    let plan = plan(BASE, SIZE);
    let kernel = RmiKernel::new(BITS, *plan.entry());
    let realm = Rmi::new(BITS, SHA256, backing).unwrap();
    let (memory, slots) = match realm.ram_file_on(&kernel, SIZE).unwrap() {
        None => memory(BASE, SIZE),
        Some(file) => {
            let region = Arc::new(guest_memory::map_file(BASE, file, SIZE, true).unwrap());
            (GuestMemoryMmap::from_arc_regions(vec![Arc::clone(&region)]).unwrap(), vec![region])
        }
    };
    NewRealm { kernel, realm, memory, slots, plan }
}

impl NewRealm {
    fn mapped() -> Self {
        Self::mapped_on(Backing::Separate)
    }

    fn mapped_on(backing: Backing) -> Self {
        let new = new(backing);
        new.slots.iter().for_each(|slot| new.realm.map_on(&new.kernel, slot).unwrap());
        new
    }

    fn load(&self) -> Result<Digest, Error> {
        self.realm.load_on(&self.kernel, &self.plan)
    }
}

#[test]
fn new_kernel_measures_what_the_back_end_says_however_small_its_steps() {
    for (stride, backing) in
        [1, 2, 1000].into_iter().flat_map(|stride| BACKINGS.map(|backing| (stride, backing)))
    {
        let mut new = NewRealm::mapped_on(backing);
        new.kernel.stride = stride;
        let rim = new.load().unwrap();
        new.realm.activate_on().unwrap();
        assert_eq!(new.kernel.run(), rim);
        let parameters = launch_parameters(HashAlgorithm::Sha256, RmmVersion::V2_0, BITS);
        assert_eq!(measure(&new.plan, &parameters).unwrap(), rim);
        for segment in new.plan.segments() {
            let mut shared = vec![1; segment.bytes().len()];
            new.memory.read_slice(&mut shared, GuestAddress(segment.gpa())).unwrap();
            assert!(shared.iter().all(|&byte| byte == 0), "nothing private was ever in shared memory");
        }
    }
}

#[test]
fn kernel_without_progress_is_given_up() {
    let mut new = NewRealm::mapped();
    new.kernel.stride = 0;
    assert!(matches!(new.load(), Err(Error::NoProgress { gpa: BASE, done: 0 })));
    assert!(matches!(new.load(), Err(Error::AlreadyLoaded)), "a load that failed cannot be tried again");
}

#[test]
fn new_kernel_refuses_every_wrong_order() {
    let new = NewRealm::mapped();
    let source = &new.slots[0];
    let populate = |gpa, range, flags| new.kernel.populate(gpa, source, range, flags).map_err(Errno::errno);
    assert_eq!(populate(BASE + 1, 0..4096, 1), Err(EINVAL));
    assert_eq!(populate(BASE, 0..100, 1), Err(EINVAL));
    assert_eq!(populate(BASE, 1..4097, 1), Err(EINVAL), "the source is not aligned");
    assert_eq!(populate(BASE, 0..0, 1), Err(EINVAL));
    assert_eq!(populate(BASE, 0..4096, 2), Err(EINVAL));
    assert_eq!(populate(BASE + SIZE, 0..4096, 1), Err(EINVAL), "not memory");
    populate(BASE, 0..4096, 1).unwrap();
    assert_eq!(populate(BASE, 0..4096, 1), Err(EEXIST));
    new.kernel.run();
    assert_eq!(populate(BASE + 4096, 0..4096, 1), Err(EBUSY), "it has run");

    let mut plain = NewRealm::mapped();
    plain.kernel.plain = true;
    assert_eq!(plain.load().map_err(errno_of), Err(Some(ENXIO)));
    let high = Rmi::new(32, SHA256, Backing::Separate).unwrap();
    let mut narrow = RmiKernel::new(BITS, *new.plan.entry());
    narrow.ipa_bits = 30;
    let refused = high.map_on(&narrow, source).map_err(errno_of);
    assert_eq!(refused, Err(Some(EINVAL)), "memory reaches the shared half");
    let file = new.kernel.create_guest_memfd(4096, 0).unwrap();
    let range = MemfdRange { gpa: BASE, offset: 0, size: 4096 };
    let overlap = new.kernel.map_private(source, file.as_fd(), range).map_err(Errno::errno);
    assert_eq!(overlap, Err(EEXIST));
    let foreign = new.kernel.set_private(file.as_fd(), range, true).map_err(Errno::errno);
    assert_eq!(foreign, Err(EINVAL), "another file than that of the memory");
}

#[test]
fn guest_shares_pages_and_takes_them_back() {
    BACKINGS.into_iter().for_each(|backing| share_and_take_back(&NewRealm::mapped_on(backing)));
}

fn share_and_take_back(new: &NewRealm) {
    new.load().unwrap();
    new.kernel.run();
    let gpa = BASE + 4 * MIB;
    let backend: &dyn RealmBackend = &new.realm;
    assert!(backend.device_access(gpa, 4096).is_err(), "all memory starts out private");
    let alias = 1 << (BITS - 1);
    let fault = new.kernel.ripas_change(gpa, 8192, false).unwrap();
    new.realm.convert_on(&new.kernel, MemoryFault { gpa: fault.gpa | alias, ..fault }).unwrap();
    assert!(new.kernel.ripas_change(gpa, 8192, false).is_none(), "the guest goes on");
    assert_eq!(backend.device_access(gpa | alias, 8192).unwrap(), gpa, "with or without the alias bit");
    assert_eq!(backend.device_access(gpa + 4096, 4096).unwrap(), gpa + 4096);
    assert!(backend.device_access(gpa + 4096, 4097).is_err());
    assert!(backend.device_access(gpa, u64::MAX).is_err());
    new.memory.write_slice(&[7; 4096], GuestAddress(gpa)).unwrap();

    let fault = new.kernel.ripas_change(gpa, 4096, true).unwrap();
    new.realm.convert_on(&new.kernel, fault).unwrap();
    assert!(new.kernel.ripas_change(gpa, 4096, true).is_none());
    assert!(backend.device_access(gpa, 4096).is_err());
    assert!(backend.device_access(gpa + 4096, 4096).is_ok());
    // In place it is the kernel that wipes the page, by way of the monitor.
    if new.realm.ram_file_on(&new.kernel, SIZE).unwrap().is_none() {
        let mut shared = [1; 4096];
        new.memory.read_slice(&mut shared, GuestAddress(gpa)).unwrap();
        assert_eq!(shared, [0; 4096], "what was shared is gone");
    }
}

#[test]
fn page_that_the_host_still_uses_is_taken_back_as_soon_as_it_does_not() {
    let new = NewRealm::mapped_on(Backing::InPlace);
    new.load().unwrap();
    new.kernel.run();
    let gpa = BASE + 4 * MIB;
    let fault = |private| new.kernel.ripas_change(gpa, 8192, private).unwrap();
    new.realm.convert_on(&new.kernel, fault(false)).unwrap();
    new.kernel.pin(gpa + 4096, 3);
    new.realm.convert_on(&new.kernel, fault(true)).unwrap();
    assert!(new.kernel.ripas_change(gpa, 8192, true).is_none(), "all of it is private");
    new.realm.convert_on(&new.kernel, fault(false)).unwrap();
    new.kernel.pin(gpa, u32::MAX);
    let refused = new.realm.convert_on(&new.kernel, fault(true)).map_err(errno_of);
    assert_eq!(refused, Err(Some(EAGAIN)), "it is not waited for without end");
    let backend: &dyn RealmBackend = &new.realm;
    assert!(backend.device_access(gpa, 4096).is_err(), "and devices begin nothing new");
}

#[test]
fn kernel_with_one_backing_refuses_every_wrong_use() {
    let new = NewRealm::mapped_on(Backing::InPlace);
    let create = |size, flags| new.kernel.create_guest_memfd(size, flags).map(drop).map_err(Errno::errno);
    assert_eq!(create(4096, 4), Err(EINVAL), "an unknown flag");
    assert_eq!(create(4096, 2), Err(EINVAL), "shared from the start, and not to be mapped");
    assert_eq!(create(100, 1), Err(EINVAL));
    let from_itself = new.kernel.populate(BASE, &new.slots[0], 0..4096, 1).map_err(Errno::errno);
    assert_eq!(from_itself, Err(EFAULT), "private memory is not read by the host");

    let (_, ordinary) = memory(BASE, SIZE);
    let fresh = RmiKernel::new(BITS, *new.plan.entry());
    let file = fresh.create_guest_memfd(SIZE, 1).unwrap();
    let range = MemfdRange { gpa: BASE, offset: 0, size: SIZE };
    let apart = fresh.map_private(&ordinary[0], file.as_fd(), range).map_err(Errno::errno);
    assert_eq!(apart, Err(EINVAL), "the host's view is another memory");
    let realm = Rmi::new(BITS, SHA256, Backing::InPlace).unwrap();
    assert!(matches!(realm.map_on(&fresh, &ordinary[0]), Err(Error::Incomplete(_))));
}

#[test]
fn kernel_that_does_not_convert_in_place_is_told_from_one_that_does() {
    let mut new = new(Backing::InPlace);
    new.kernel.memfd_flags = 0;
    let error = new.realm.ram_file_on(&new.kernel, SIZE).unwrap_err().to_string();
    assert!(error.contains("realm.guest_memfd") && error.contains("separate"), "{error}");
    let separate = Rmi::new(BITS, SHA256, Backing::Separate).unwrap();
    assert!(separate.ram_file_on(&new.kernel, SIZE).unwrap().is_none());
}

#[test]
fn faults_that_mean_nothing_end_the_vm() {
    let new = NewRealm::mapped();
    for (gpa, size) in [(BASE + 1, 4096), (BASE, 0), (BASE, 100), (BASE + SIZE, 4096), (BASE, SIZE + 4096)] {
        for private in [false, true] {
            let fault = MemoryFault { gpa, size, private };
            assert!(
                matches!(new.realm.convert_on(&new.kernel, fault), Err(Error::Fault { .. })),
                "{fault:?}"
            );
        }
    }
}

#[test]
fn what_new_kernels_cannot_measure_is_refused_before_launch() {
    let sha512 = Parameters { hash: HashAlgorithm::Sha512, ..SHA256 };
    let error = Rmi::new(BITS, sha512, Backing::Separate).unwrap_err().to_string();
    assert!(error.contains("measurement_algorithm") && error.contains("SHA-256"), "{error}");
    let mut rpv = [0; 64];
    rpv[63] = 1;
    let error = Rmi::new(BITS, Parameters { rpv, ..SHA256 }, Backing::InPlace).unwrap_err().to_string();
    assert!(error.contains("personalization_value"), "{error}");
    check(RmmVersion::V1_0, &Parameters { rpv, ..sha512 }).unwrap();
}
