//! KVM with CCA patches from v14 on, on an RMM 2.0.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use evidence::hash::{Digest, HashAlgorithm};
use evidence::rmm::{RealmParams, RecParams, Rim, RmmVersion};
use hypervisor::MemoryFault;
use hypervisor::realm::{MemfdRange, RealmHost, RealmVm};
use machine::launch::VcpuEntry;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::{Bytes, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};
use vmm_sys_util::errno::Error as Errno;

use super::{EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENOTTY, ENXIO, PAGE, aligned, refuse, require};

pub(crate) struct RmiKernel {
    pub(crate) ipa_bits: u8,
    entry: VcpuEntry,
    /// Most pages of one populate call; none is a kernel that is stuck.
    pub(crate) stride: u64,
    /// The VM is no Realm.
    pub(crate) plain: bool,
    /// Flags that a guest_memfd can have; with that of a mapping, attributes belong to the file.
    pub(crate) memfd_flags: u64,
    state: Mutex<State>,
}

struct State {
    rim: Rim,
    slots: Vec<(MemfdRange, u64)>,
    private: BTreeSet<u64>,
    /// Files that are the memory of the Realm and of the host at once.
    mapped: Vec<u64>,
    /// Pages that the host still uses, and how often it will be asked until it does not.
    pinned: BTreeMap<u64, u32>,
    populated: BTreeSet<u64>,
    ran: bool,
}

impl RmiKernel {
    pub(crate) fn new(ipa_bits: u8, entry: VcpuEntry) -> Self {
        let params = RealmParams {
            flags: 0,
            s2sz: ipa_bits,
            sve_vl: 0,
            num_bps: 1,
            num_wps: 1,
            pmu_num_ctrs: 0,
            hash: HashAlgorithm::Sha256,
        };
        let state = State {
            rim: Rim::new(RmmVersion::V2_0, &params).unwrap(),
            slots: Vec::new(),
            private: BTreeSet::new(),
            mapped: Vec::new(),
            pinned: BTreeMap::new(),
            populated: BTreeSet::new(),
            ran: false,
        };
        Self { ipa_bits, entry, stride: 2, plain: false, memfd_flags: 3, state: Mutex::new(state) }
    }

    /// Runs the guest; gives what the monitor has measured.
    pub(crate) fn run(&self) -> Digest {
        let mut state = self.state.lock().unwrap();
        if !state.ran {
            state.ran = true;
            let entry = self.entry;
            state.rim.rec(&RecParams { flags: 1, pc: entry.pc, gprs: entry.gprs });
        }
        state.rim.value()
    }

    /// I/O of the host goes to a page until somebody has wanted it `times` times.
    pub(crate) fn pin(&self, gpa: u64, times: u32) {
        self.state.lock().unwrap().pinned.insert(gpa, times);
    }

    /// The guest wants the range private or shared; the exit that follows, as long as the memory is not so.
    pub(crate) fn ripas_change(&self, gpa: u64, size: u64, private: bool) -> Option<MemoryFault> {
        let state = self.state.lock().unwrap();
        let differs = (gpa..gpa + size).step_by(4096).any(|page| state.private.contains(&page) != private);
        differs.then_some(MemoryFault { gpa, size, private })
    }
}

/// What tells a file from others, whichever descriptor names it.
fn inode(descriptor: i32) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(format!("/proc/self/fd/{descriptor}")).unwrap())
}

impl State {
    fn is_mapped(&self, descriptor: i32) -> bool {
        self.mapped.contains(&inode(descriptor))
    }

    fn slot(&self, gpa: u64, size: u64) -> Option<&(MemfdRange, u64)> {
        self.slots.iter().find(|(range, _)| gpa >= range.gpa && gpa + size <= range.gpa + range.size)
    }
}

impl RealmVm for RmiKernel {
    fn check_extension(&self, capability: u32) -> i32 {
        match capability {
            244 => i32::try_from(self.memfd_flags).unwrap(),
            250 => i32::from(self.memfd_flags & 1 == 1),
            // What the number means here is another matter.
            _ => 1,
        }
    }

    fn enable_capability(&self, _: u32, _: u64, _: Option<&[u8]>) -> Result<(), Errno> {
        refuse(EINVAL)
    }

    fn populate(
        &self,
        gpa: u64,
        source: &GuestRegionMmap,
        range: std::ops::Range<u64>,
        flags: u32,
    ) -> Result<u64, Errno> {
        let mut state = self.state.lock().unwrap();
        require(!self.plain, ENXIO)?;
        let size = range.end.checked_sub(range.start).ok_or_else(|| Errno::new(EINVAL))?;
        let address = source.as_ptr() as u64 + range.start;
        require(flags <= 1 && aligned(&[gpa, size, address]) && size > 0, EINVAL)?;
        require(!state.ran, EBUSY)?;
        require(state.slot(gpa, size).is_some(), EINVAL)?;
        // What is private cannot be read by the host, whoever asks.
        let file = source.file_offset().map(|file| file.file().as_raw_fd());
        require(!file.is_some_and(|file| state.is_mapped(file)), EFAULT)?;
        let count = self.stride.min(size / PAGE);
        for index in 0..count {
            let page = gpa + index * PAGE;
            require(state.private.contains(&page), EINVAL)?;
            require(state.populated.insert(page), EEXIST)?;
            let mut content = [0; 4096];
            source
                .read_slice(&mut content, MemoryRegionAddress(range.start + index * PAGE))
                .map_err(|_| Errno::new(EFAULT))?;
            let measured =
                if flags == 1 { state.rim.data(page, &content) } else { state.rim.data_unmeasured(page) };
            measured.map_err(|_| Errno::new(EINVAL))?;
        }
        Ok(count * PAGE)
    }

    fn load_user_data(&self, _: &[u8]) -> Result<(), Errno> {
        refuse(ENOTTY)
    }

    fn create_guest_memfd(&self, size: u64, flags: u64) -> Result<OwnedFd, Errno> {
        require(aligned(&[size]) && size > 0 && flags & !self.memfd_flags == 0, EINVAL)?;
        // Memory of both sides starts out private unless it is said otherwise.
        require(flags & 2 == 0 || flags & 1 == 1, EINVAL)?;
        let file = memfd_create("guest_memfd", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, size).unwrap();
        if flags & 1 == 1 {
            self.state.lock().unwrap().mapped.push(inode(file.as_raw_fd()));
        }
        Ok(file)
    }

    fn map_private(
        &self,
        region: &Arc<GuestRegionMmap>,
        memfd: BorrowedFd<'_>,
        range: MemfdRange,
    ) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        require(aligned(&[range.gpa, range.offset, range.size]) && range.size > 0, EINVAL)?;
        require(region.len() >= range.size && range.gpa + range.size <= 1 << (self.ipa_bits - 1), EINVAL)?;
        let overlaps = state
            .slots
            .iter()
            .any(|(other, _)| range.gpa < other.gpa + other.size && other.gpa < range.gpa + range.size);
        require(!overlaps, EEXIST)?;
        let file = inode(memfd.as_raw_fd());
        if state.mapped.contains(&file) {
            // The host's view is the same memory, at the same place.
            let mapped = region.file_offset().filter(|mapped| inode(mapped.file().as_raw_fd()) == file);
            require(mapped.is_some_and(|mapped| mapped.start() == range.offset), EINVAL)?;
        }
        state.slots.push((range, file));
        Ok(())
    }

    fn set_private(&self, memfd: BorrowedFd<'_>, range: MemfdRange, private: bool) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        require(aligned(&[range.gpa, range.offset, range.size]) && range.size > 0, EINVAL)?;
        let slot = state.slot(range.gpa, range.size).copied();
        let Some((slot, file)) = slot else { return refuse(EINVAL) };
        require(
            file == inode(memfd.as_raw_fd()) && range.offset == range.gpa - slot.gpa + slot.offset,
            EINVAL,
        )?;
        if private {
            // All or nothing: a page that the host has pinned keeps the others from going.
            for page in (range.gpa..range.gpa + range.size).step_by(4096) {
                if let Some(left) = state.pinned.get_mut(&page) {
                    *left = left.saturating_sub(1);
                    let gone = *left == 0;
                    if gone {
                        state.pinned.remove(&page);
                    }
                    return refuse(EAGAIN);
                }
            }
        }
        for page in (range.gpa..range.gpa + range.size).step_by(4096) {
            if private {
                state.private.insert(page);
            } else {
                state.private.remove(&page);
            }
        }
        Ok(())
    }
}

impl RealmHost for RmiKernel {
    fn ipa_limit(&self) -> u32 {
        44
    }
    fn can_create(&self, vm_type: u64) -> bool {
        vm_type & !0xff == 1 << 30 && vm_type & 0xff <= u64::from(self.ipa_bits)
    }
    fn check_extension(&self, _: u32) -> i32 {
        1
    }
}
