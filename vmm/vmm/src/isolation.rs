//! The difference between an ordinary VM and a Realm, for everything that is wired to the VM.

use std::io;
use std::sync::Arc;

use devices::dma::{DmaFault, DmaPolicy, IdentityDma};
use devices::doorbell::IoEvents;
use devices::interrupt::{InterruptLine, MsiMessage, MsiSink};
use hypervisor::{GicAddresses, Vm};
use realm::RealmBackend;
use vm_memory::Permissions;
use vmm_sys_util::eventfd::EventFd;

/// What stands between the guest and this VMM, if anything.
#[derive(Clone, Debug)]
pub struct Isolation(Option<Arc<dyn RealmBackend>>);

impl Isolation {
    /// An ordinary VM, or a Realm.
    pub fn new(realm: Option<Arc<dyn RealmBackend>>) -> Self {
        Self(realm)
    }

    /// The Realm, unless the VM is an ordinary one.
    pub fn realm(&self) -> Option<&Arc<dyn RealmBackend>> {
        self.0.as_ref()
    }

    /// The address of the board that a guest access means.
    pub fn board_address(&self, gpa: u64) -> u64 {
        self.0.as_ref().map_or(gpa, |realm| realm.board_address(gpa))
    }

    /// Where a device of the board must answer for the guest to reach it.
    fn device_address(&self, gpa: u64) -> u64 {
        self.0.as_ref().map_or(gpa, |realm| realm.device_address(realm.board_address(gpa)))
    }

    /// Where the interrupt controller must answer.
    pub fn gic_addresses(&self, gic: &machine::layout::Gic) -> GicAddresses {
        GicAddresses {
            distributor: self.device_address(gic.distributor.base),
            redistributors: self.device_address(gic.redistributors.base),
            its: self.device_address(gic.its.base),
        }
    }

    /// What devices may reach.
    pub fn dma_policy(&self) -> Arc<dyn DmaPolicy> {
        match &self.0 {
            None => Arc::new(IdentityDma),
            Some(realm) => Arc::new(SharedMemoryOnly(Arc::clone(realm))),
        }
    }
}

/// Lets devices reach what the Realm shares, and nothing else.
struct SharedMemoryOnly(Arc<dyn RealmBackend>);

impl DmaPolicy for SharedMemoryOnly {
    fn translate(&self, iova: u64, len: u64, _access: Permissions) -> Result<u64, DmaFault> {
        let gpa = self.0.board_address(iova);
        self.0.device_access(iova, len).map_err(|_| DmaFault::Private { gpa })
    }
}

/// A wired interrupt of the GIC.
pub struct Spi {
    /// The VM.
    pub vm: Arc<Vm>,
    /// Number of the shared peripheral interrupt.
    pub spi: u32,
}

impl InterruptLine for Spi {
    fn set_level(&self, level: bool) {
        if let Err(error) = self.vm.set_spi(self.spi, level) {
            tracing::error!(spi = self.spi, level, %error, "interrupt lost");
        }
    }
}

/// The in-kernel ITS as a target of message-signalled interrupts and of doorbells.
pub struct Kernel {
    /// The VM.
    pub vm: Arc<Vm>,
    /// Where the guest sees devices.
    pub isolation: Isolation,
}

impl MsiSink for Kernel {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        let address = self.isolation.device_address(message.address);
        self.vm.signal_msi(address, message.data, message.device_id).map(|_| ()).map_err(io::Error::other)
    }
}

impl IoEvents for Kernel {
    fn register(&self, addr: u64, event: &EventFd) -> io::Result<()> {
        self.vm.register_doorbell(self.isolation.device_address(addr), event).map_err(io::Error::other)
    }

    fn unregister(&self, addr: u64, event: &EventFd) -> io::Result<()> {
        self.vm.unregister_doorbell(self.isolation.device_address(addr), event).map_err(io::Error::other)
    }
}
