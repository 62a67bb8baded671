//! openEuler's KVM with virtCCA, and the TMM below it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use evidence::hash::{Digest, HashAlgorithm};
use evidence::tmm::{CvmParams, CvmRim, TecParams};
use hypervisor::realm::{MemfdRange, RealmHost, RealmVcpu, RealmVm};
use machine::launch::VcpuEntry;
use vm_memory::GuestRegionMmap;
use vmm_sys_util::errno::Error as Errno;

use super::{EBUSY, EEXIST, EINVAL, ENOTTY, EPERM, aligned, half, hash, refuse, require, slot_page, word};

const CAPABILITY: u32 = 300;
const USER_DATA: usize = 624;

pub(crate) struct VirtCcaKernel {
    slots: Vec<Arc<GuestRegionMmap>>,
    vcpus: usize,
    entry: VcpuEntry,
    /// The kernel knows the newer user data.
    pub(crate) uefi: bool,
    state: Mutex<State>,
}

struct State {
    params: CvmParams,
    rim: Option<CvmRim>,
    /// What the kernel was told of the image.
    user_data: Vec<u64>,
    /// Where the image must end.
    limit: Option<u64>,
    populated: bool,
    finalised: usize,
    active: bool,
}

impl VirtCcaKernel {
    pub(crate) fn new(slots: Vec<Arc<GuestRegionMmap>>, vcpus: usize, entry: VcpuEntry) -> Self {
        let params = CvmParams { sve_vq: 0, pmu_counters: None, hash: HashAlgorithm::Sha256 };
        let state = State {
            params,
            rim: None,
            user_data: Vec::new(),
            limit: None,
            populated: false,
            finalised: 0,
            active: false,
        };
        Self { slots, vcpus, entry, uefi: true, state: Mutex::new(state) }
    }

    pub(crate) fn vcpu(&self) -> VirtCcaVcpu<'_> {
        VirtCcaVcpu(self)
    }

    pub(crate) fn user_data(&self) -> Vec<u64> {
        self.state.lock().unwrap().user_data.clone()
    }

    /// Runs the guest; gives what the monitor has measured.
    pub(crate) fn run(&self) -> Result<Digest, Errno> {
        let state = self.state.lock().unwrap();
        require(state.active, EPERM)?;
        Ok(state.rim.as_ref().unwrap().value())
    }
}

impl State {
    fn config(&mut self, item: &[u8]) -> Result<(), Errno> {
        require(item.len() == 4 + 256, EINVAL)?;
        require(self.rim.is_none(), EBUSY)?;
        let value = half(item, 4);
        let byte = u8::try_from(value).map_err(|_| Errno::new(EINVAL));
        match half(item, 0) {
            0 => {}
            1 => self.params.hash = hash(value)?,
            2 => self.params.sve_vq = byte?,
            4 => {
                require(value < 32, EINVAL)?;
                self.params.pmu_counters = Some(byte?);
            }
            _ => return refuse(EINVAL),
        }
        Ok(())
    }

    fn new_cvm(&mut self) -> Result<&mut Self, Errno> {
        require(self.rim.is_some() && !self.active, EPERM)?;
        Ok(self)
    }

    fn populate(&mut self, slots: &[Arc<GuestRegionMmap>], given: &[u8]) -> Result<(), Errno> {
        require(given.len() == 48, EINVAL)?;
        let [base1, size1, base2, size2] = [0, 1, 2, 3].map(|index| word(given, index));
        require(aligned(&[base1, size1, base2, size2]) && size1 > 0, EINVAL)?;
        require(half(given, 32) == 1 && given[36..].iter().all(|&byte| byte == 0), EINVAL)?;
        let limit = self.limit.ok_or_else(|| Errno::new(EPERM))?;
        require(base2 >= base1 + size1 && base2 + size2 <= limit, EINVAL)?;
        require(!std::mem::replace(&mut self.populated, true), EEXIST)?;
        for (base, size) in [(base1, size1), (base2, size2)] {
            for gpa in (base..base + size).step_by(4096) {
                let page = slot_page(slots, gpa)?;
                self.rim.as_mut().unwrap().data(gpa, &page).map_err(|_| Errno::new(EINVAL))?;
            }
        }
        Ok(())
    }
}

impl RealmVm for VirtCcaKernel {
    fn check_extension(&self, capability: u32) -> i32 {
        i32::from(capability == CAPABILITY)
    }

    fn enable_capability(
        &self,
        capability: u32,
        operation: u64,
        argument: Option<&[u8]>,
    ) -> Result<(), Errno> {
        require(capability == CAPABILITY, EINVAL)?;
        let mut state = self.state.lock().unwrap();
        let given = argument.ok_or_else(|| Errno::new(EINVAL));
        match operation {
            0 => state.config(given?),
            1 => {
                require(state.rim.is_none(), EEXIST)?;
                require(argument.is_none(), EINVAL)?;
                let rim = CvmRim::new(&state.params).map_err(|_| Errno::new(EINVAL))?;
                state.rim = Some(rim);
                Ok(())
            }
            2 => {
                let given = given?;
                state.new_cvm()?.populate(&self.slots, given)
            }
            3 => {
                require(argument.is_none(), EINVAL)?;
                let vcpus = self.vcpus;
                let state = state.new_cvm()?;
                require(state.populated && state.finalised == vcpus, EPERM)?;
                state.active = true;
                Ok(())
            }
            _ => refuse(EINVAL),
        }
    }

    fn load_user_data(&self, data: &[u8]) -> Result<(), Errno> {
        // The length is part of the request's number.
        require(data.len() == USER_DATA, ENOTTY)?;
        let mut state = self.state.lock().unwrap();
        let state = state.new_cvm()?;
        require(!state.populated, EPERM)?;
        let [start, a, b, c, ram] = [0, 1, 2, 3, 4].map(|index| word(data, index));
        require(aligned(&[start, b, c, ram]) && ram > 0, EINVAL)?;
        let end = if self.uefi {
            if a & 1 == 1 {
                require(b >= start && b + c <= start + ram, EINVAL)?;
                b + c
            } else {
                require(a == 0x20_0000 && b + c <= start, EINVAL)?;
                start + a
            }
        } else {
            require(a > start && b >= a && c > b && c <= start + ram, EINVAL)?;
            c
        };
        let nodes = usize::try_from(word(data, 5)).unwrap();
        require(nodes <= 8, EINVAL)?;
        let sizes = (0..nodes).map(|node| word(data, 6 + node * 9 + 2));
        require(nodes == 0 || sizes.sum::<u64>() == ram, EINVAL)?;
        state.user_data = (0..data.len() / 8).map(|index| word(data, index)).collect();
        state.limit = Some(end);
        Ok(())
    }

    fn populate(&self, _: u64, _: &GuestRegionMmap, _: std::ops::Range<u64>, _: u32) -> Result<u64, Errno> {
        refuse(ENOTTY)
    }
    fn create_guest_memfd(&self, _: u64, _: u64) -> Result<OwnedFd, Errno> {
        refuse(ENOTTY)
    }
    fn map_private(&self, _: &Arc<GuestRegionMmap>, _: BorrowedFd<'_>, _: MemfdRange) -> Result<(), Errno> {
        refuse(ENOTTY)
    }
    fn set_private(&self, _: BorrowedFd<'_>, _: MemfdRange, _: bool) -> Result<(), Errno> {
        refuse(ENOTTY)
    }
}

pub(crate) struct VirtCcaVcpu<'a>(&'a VirtCcaKernel);

impl RealmVcpu for VirtCcaVcpu<'_> {
    fn finalize(&self, feature: u32) -> Result<(), Errno> {
        require(feature == 8, EINVAL)?;
        let mut state = self.0.state.lock().unwrap();
        let state = state.new_cvm()?;
        require(state.populated && state.finalised < self.0.vcpus, EPERM)?;
        let VcpuEntry { pc, gprs } = self.0.entry;
        let first = TecParams { pc, gprs, flags: 1 };
        let tec = if state.finalised == 0 { first } else { TecParams::default() };
        state.rim.as_mut().unwrap().tec(&tec);
        state.finalised += 1;
        Ok(())
    }
}

impl RealmHost for VirtCcaKernel {
    fn ipa_limit(&self) -> u32 {
        48
    }
    fn can_create(&self, vm_type: u64) -> bool {
        vm_type & !0xff == 0x100
    }
    fn check_extension(&self, capability: u32) -> i32 {
        i32::from(capability == CAPABILITY)
    }
}
