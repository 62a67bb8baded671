//! KVM with CCA patches up to v10, on an RMM 1.0.

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use evidence::hash::{Digest, HashAlgorithm};
use evidence::rmm::{RealmParams, RecParams, Rim, RmmVersion};
use hypervisor::realm::{MemfdRange, RealmHost, RealmVcpu, RealmVm};
use machine::launch::VcpuEntry;
use vm_memory::GuestRegionMmap;
use vmm_sys_util::errno::Error as Errno;

use super::{
    EBUSY, EEXIST, EINVAL, ENOTTY, EPERM, PAGE, aligned, half, hash, refuse, require, slot_page, word,
};

const CAPABILITY: u32 = 300;

pub(crate) struct LegacyKernel {
    ipa_bits: u8,
    slots: Vec<Arc<GuestRegionMmap>>,
    vcpus: usize,
    entry: VcpuEntry,
    state: Mutex<State>,
}

struct State {
    hash: HashAlgorithm,
    rpv: Vec<u8>,
    rim: Option<Rim>,
    ram: BTreeSet<u64>,
    assigned: BTreeSet<u64>,
    finalised: usize,
    active: bool,
}

impl LegacyKernel {
    pub(crate) fn new(
        ipa_bits: u8,
        slots: Vec<Arc<GuestRegionMmap>>,
        vcpus: usize,
        entry: VcpuEntry,
    ) -> Self {
        let state = State {
            hash: HashAlgorithm::Sha256,
            rpv: Vec::new(),
            rim: None,
            ram: BTreeSet::new(),
            assigned: BTreeSet::new(),
            finalised: 0,
            active: false,
        };
        Self { ipa_bits, slots, vcpus, entry, state: Mutex::new(state) }
    }

    pub(crate) fn vcpu(&self) -> LegacyVcpu<'_> {
        LegacyVcpu(self)
    }

    /// Runs the guest; gives what the monitor has measured.
    pub(crate) fn run(&self) -> Result<Digest, Errno> {
        let state = self.state.lock().unwrap();
        require(state.active, EPERM)?;
        Ok(state.rim.as_ref().unwrap().value())
    }

    pub(crate) fn rpv(&self) -> Vec<u8> {
        self.state.lock().unwrap().rpv.clone()
    }
}

impl State {
    fn config(&mut self, item: &[u8]) -> Result<(), Errno> {
        require(item.len() == 4 + 256, EINVAL)?;
        require(self.rim.is_none(), EBUSY)?;
        match half(item, 0) {
            0 => self.rpv = item[4..68].to_vec(),
            1 => self.hash = hash(half(item, 4))?,
            2..=4 => {}
            _ => return refuse(EINVAL),
        }
        Ok(())
    }

    fn new_realm(&mut self) -> Result<&mut Self, Errno> {
        require(self.rim.is_some() && !self.active, EPERM)?;
        Ok(self)
    }
}

impl RealmVm for LegacyKernel {
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
                let params = RealmParams {
                    flags: 0,
                    s2sz: self.ipa_bits,
                    sve_vl: 0,
                    num_bps: 1,
                    num_wps: 1,
                    pmu_num_ctrs: 0,
                    hash: state.hash,
                };
                state.rim = Some(Rim::new(RmmVersion::V1_0, &params).map_err(|_| Errno::new(EINVAL))?);
                Ok(())
            }
            2 => {
                let state = state.new_realm()?;
                let given = given?;
                require(given.len() == 32, EINVAL)?;
                let (base, size) = (word(given, 0), word(given, 1));
                require(
                    aligned(&[base, size]) && size > 0 && given[16..].iter().all(|&byte| byte == 0),
                    EINVAL,
                )?;
                let pages: Vec<u64> = (base..base + size).step_by(4096).collect();
                // RMM 1.0 does not initialise what is assigned.
                require(pages.iter().all(|page| !state.assigned.contains(page)), EINVAL)?;
                state.rim.as_mut().unwrap().init_ripas(base, base + size).map_err(|_| Errno::new(EINVAL))?;
                state.ram.extend(pages);
                Ok(())
            }
            3 => {
                let state = state.new_realm()?;
                let given = given?;
                require(given.len() == 32, EINVAL)?;
                let (base, size, flags) = (word(given, 0), word(given, 1), half(given, 16));
                require(aligned(&[base, size]) && size > 0, EINVAL)?;
                require(flags <= 1 && given[20..].iter().all(|&byte| byte == 0), EINVAL)?;
                for gpa in (base..base + size).step_by(4096) {
                    let page = slot_page(&self.slots, gpa)?;
                    require(state.ram.contains(&gpa) && state.assigned.insert(gpa), EINVAL)?;
                    let rim = state.rim.as_mut().unwrap();
                    let measured = if flags == 1 { rim.data(gpa, &page) } else { rim.data_unmeasured(gpa) };
                    measured.map_err(|_| Errno::new(EINVAL))?;
                }
                Ok(())
            }
            4 => {
                require(argument.is_none(), EINVAL)?;
                let vcpus = self.vcpus;
                let state = state.new_realm()?;
                require(state.finalised == vcpus, EPERM)?;
                state.active = true;
                Ok(())
            }
            _ => refuse(EINVAL),
        }
    }

    fn populate(&self, _: u64, _: &GuestRegionMmap, _: std::ops::Range<u64>, _: u32) -> Result<u64, Errno> {
        refuse(ENOTTY)
    }
    fn load_user_data(&self, _: &[u8]) -> Result<(), Errno> {
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

pub(crate) struct LegacyVcpu<'a>(&'a LegacyKernel);

impl RealmVcpu for LegacyVcpu<'_> {
    fn finalize(&self, feature: u32) -> Result<(), Errno> {
        require(feature == 8, EINVAL)?;
        let mut state = self.0.state.lock().unwrap();
        let state = state.new_realm()?;
        require(state.finalised < self.0.vcpus, EPERM)?;
        // The first vCPU boots, the others wait for PSCI.
        let entry = self.0.entry;
        let flags = u64::from(state.finalised == 0);
        state.rim.as_mut().unwrap().rec(&RecParams { flags, pc: entry.pc, gprs: entry.gprs });
        state.finalised += 1;
        Ok(())
    }
}

impl RealmHost for LegacyKernel {
    fn ipa_limit(&self) -> u32 {
        44
    }
    fn can_create(&self, vm_type: u64) -> bool {
        vm_type & !0xff == 0x100 && vm_type & 0xff <= u64::from(self.ipa_bits) && PAGE == 4096
    }
    fn check_extension(&self, capability: u32) -> i32 {
        i32::from(capability == CAPABILITY)
    }
}
