//! Lets the kernel ring a queue's doorbell without leaving the guest's vCPU in user space (ioeventfd).

use std::io;

use vmm_sys_util::eventfd::EventFd;

/// Registers eventfds that fire on a guest store of any width to an address.
///
/// The device calls it whenever the guest places or removes the BAR that holds its doorbells; the address always lies
/// in one of the windows given to [`PciBus::new`](crate::pci::PciBus::new). A Realm guest stores through the shared
/// alias of that address: adding the alias bit is the implementer's part. Registration is an optimisation: the same
/// store arriving as a plain MMIO exit rings the doorbell as well.
pub trait IoEvents: Send + Sync {
    /// Makes a store to `addr` fire `event`.
    ///
    /// # Errors
    /// Whatever the kernel said; the device logs it and relies on MMIO exits.
    fn register(&self, addr: u64, event: &EventFd) -> io::Result<()>;
    /// Undoes [`IoEvents::register`] with the same arguments.
    ///
    /// # Errors
    /// Whatever the kernel said; the device logs it.
    fn unregister(&self, addr: u64, event: &EventFd) -> io::Result<()>;
}

/// No kernel assistance: every doorbell arrives as an MMIO exit.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIoEvents;

impl IoEvents for NoIoEvents {
    fn register(&self, _addr: u64, _event: &EventFd) -> io::Result<()> {
        Ok(())
    }
    fn unregister(&self, _addr: u64, _event: &EventFd) -> io::Result<()> {
        Ok(())
    }
}
