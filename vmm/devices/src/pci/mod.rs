//! A PCI Express host with a bus, root ports with a slot each on that bus, its configuration space (ECAM) and message-signalled interrupts.

mod bus;
mod config;
mod host_bridge;
mod msix;
mod root_port;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use bus::{PciBus, PciError};
pub(crate) use config::{ConfigSpace, Header};
pub(crate) use msix::Msix;
pub use root_port::Ejected;

/// Bytes of configuration space per function in the ECAM window.
pub const ECAM_FUNCTION_SIZE: u64 = 4096;
/// Device slots on a bus, the host bridge in slot 0 included.
pub const SLOTS: u8 = 32;

/// Where a single-function device sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciAddress {
    bus: u8,
    slot: u8,
}

impl PciAddress {
    /// The device number, 0 to 31.
    pub fn slot(self) -> u8 {
        self.slot
    }

    /// The requester id with which the device's messages reach the ITS.
    pub fn requester(self) -> Requester {
        Requester(Arc::new((u32::from(self.bus) << 8 | u32::from(self.slot) << 3).into()))
    }
}

/// The id with which a function's messages reach the ITS. That of a function behind a root port changes with the number
/// that the guest gives to the port's bus.
#[derive(Clone, Debug)]
pub struct Requester(Arc<AtomicU32>);

impl Requester {
    /// Of the function behind a port, whose bus has no number so far.
    fn behind_port() -> Self {
        Self(Arc::default())
    }

    #[cfg(test)]
    pub(crate) fn of(id: u32) -> Self {
        Self(Arc::new(id.into()))
    }

    fn set_bus(&self, bus: u8) {
        self.0.store(u32::from(bus) << 8, Ordering::Relaxed);
    }

    /// Bus, slot and function.
    pub fn id(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0000:{:02x}:{:02x}.0", self.bus, self.slot)
    }
}

/// A base address register that decodes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Index of its (first) register, 0 to 5.
    pub index: u8,
    /// Guest physical address that the guest programmed.
    pub base: u64,
    /// Length in bytes, a power of two.
    pub size: u64,
}

/// A function on the bus. Like [`MmioDevice`](crate::bus::MmioDevice) it locks itself, and everything it is given
/// comes from the guest.
pub trait PciDevice: Send + Sync {
    /// Reads configuration space at `offset` (below 4096).
    fn read_config(&self, offset: u16, data: &mut [u8]);
    /// Writes configuration space at `offset` (below 4096).
    fn write_config(&self, offset: u16, data: &[u8]);
    /// The memory BARs that the function decodes now: none while memory decoding is off.
    fn bars(&self) -> Vec<Bar>;
    /// Tells that BAR `index` answers at `base` from now on, or nowhere: called when a BAR enters, moves within or
    /// leaves the windows of the host bridge.
    fn bar_moved(&self, index: u8, base: Option<u64>);
    /// Reads from BAR `index`.
    fn read_bar(&self, index: u8, offset: u64, data: &mut [u8]);
    /// Writes to BAR `index`.
    fn write_bar(&self, index: u8, offset: u64, data: &[u8]);
}
