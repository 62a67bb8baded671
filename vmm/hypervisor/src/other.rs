//! The same interface where no arm64 guest can run: nothing here can be constructed.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use vm_memory::GuestRegionMmap;
use vmm_sys_util::errno::Error as Errno;
use vmm_sys_util::eventfd::EventFd;

use crate::realm::{MemfdRange, RealmHost, RealmVcpu, RealmVm};
use crate::{Error, Exit, GicAddresses, Result, SmcccRange, VmType};

/// KVM's system file; see the crate's documentation.
#[derive(Debug)]
pub enum Hypervisor {}

/// A virtual machine; see the crate's documentation.
#[derive(Debug)]
pub enum Vm {}

/// A virtual CPU; see the crate's documentation.
#[derive(Debug)]
pub enum Vcpu {}

/// The interrupt controller; see the crate's documentation.
#[derive(Debug)]
pub enum Gic {}

/// Takes a vCPU out of the guest; see the crate's documentation.
#[derive(Debug)]
pub enum Kicker {}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "documented where they can be called")]
impl Hypervisor {
    pub fn open() -> Result<Self> {
        Err(Error::Architecture { found: std::env::consts::ARCH })
    }

    #[must_use]
    pub fn ipa_limit(&self) -> u32 {
        match *self {}
    }

    pub fn create_vm(&self, _: VmType) -> Result<Vm> {
        match *self {}
    }
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "documented where they can be called")]
impl Vm {
    pub fn map_memory(&self, _: u64, _: &Arc<GuestRegionMmap>) -> Result<()> {
        match *self {}
    }

    pub fn unmap_memory(&self, _: u64) -> Result<()> {
        match *self {}
    }

    pub fn create_vcpu(&self, _: u16) -> Result<Vcpu> {
        match *self {}
    }

    pub fn create_gic(&self, _: GicAddresses, _: u32) -> Result<Gic> {
        match *self {}
    }

    pub fn forward_smccc(&self, _: SmcccRange) -> Result<()> {
        match *self {}
    }

    pub fn set_spi(&self, _: u32, _: bool) -> Result<()> {
        match *self {}
    }

    pub fn signal_msi(&self, _: u64, _: u32, _: u32) -> Result<bool> {
        match *self {}
    }

    pub fn register_doorbell(&self, _: u64, _: &EventFd) -> Result<()> {
        match *self {}
    }

    pub fn unregister_doorbell(&self, _: u64, _: &EventFd) -> Result<()> {
        match *self {}
    }
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "documented where they can be called")]
impl Vcpu {
    pub fn init(&mut self, _: bool, _: u32) -> Result<()> {
        match *self {}
    }

    pub fn set_entry(&mut self, _: u64, _: &[u64; 8]) -> Result<()> {
        match *self {}
    }

    pub fn gpr(&self, _: usize) -> Result<u64> {
        match *self {}
    }

    pub fn set_gpr(&mut self, _: usize, _: u64) -> Result<()> {
        match *self {}
    }

    pub fn inject_data_abort(&mut self) -> Result<()> {
        match *self {}
    }

    pub fn kicker(&mut self) -> Result<Kicker> {
        match *self {}
    }

    pub fn run(&mut self) -> Result<Exit<'_>> {
        match *self {}
    }

    pub fn clear_kick(&mut self) {
        match *self {}
    }
}

#[expect(missing_docs, reason = "documented where they can be called")]
impl Kicker {
    pub fn kick(&self) {
        match *self {}
    }
}

impl RealmVm for Vm {
    fn check_extension(&self, _: u32) -> i32 {
        match *self {}
    }
    fn enable_capability(&self, _: u32, _: u64, _: Option<&[u8]>) -> std::result::Result<(), Errno> {
        match *self {}
    }
    fn populate(
        &self,
        _: u64,
        _: &GuestRegionMmap,
        _: std::ops::Range<u64>,
        _: u32,
    ) -> std::result::Result<u64, Errno> {
        match *self {}
    }
    fn load_user_data(&self, _: &[u8]) -> std::result::Result<(), Errno> {
        match *self {}
    }
    fn create_guest_memfd(&self, _: u64, _: u64) -> std::result::Result<OwnedFd, Errno> {
        match *self {}
    }
    fn map_private(
        &self,
        _: &Arc<GuestRegionMmap>,
        _: BorrowedFd<'_>,
        _: MemfdRange,
    ) -> std::result::Result<(), Errno> {
        match *self {}
    }
    fn set_private(&self, _: BorrowedFd<'_>, _: MemfdRange, _: bool) -> std::result::Result<(), Errno> {
        match *self {}
    }
}

impl RealmVcpu for Vcpu {
    fn finalize(&self, _: u32) -> std::result::Result<(), Errno> {
        match *self {}
    }
}

impl RealmHost for Hypervisor {
    fn ipa_limit(&self) -> u32 {
        match *self {}
    }
    fn can_create(&self, _: u64) -> bool {
        match *self {}
    }
    fn check_extension(&self, _: u32) -> i32 {
        match *self {}
    }
}
