//! What a device needs to interrupt the guest; the VMM implements it on its interrupt controller.

use std::io;

/// A wired, level-sensitive interrupt (a GIC SPI).
pub trait InterruptLine: Send + Sync {
    /// Drives the line. Called only when the level changes.
    fn set_level(&self, level: bool);
}

/// A message-signalled interrupt as the guest programmed it: a store of `data` to `address` by `device_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiMessage {
    /// Doorbell address, for a GIC the ITS's GITS_TRANSLATER. Chosen by the guest.
    pub address: u64,
    /// Event number. Chosen by the guest.
    pub data: u32,
    /// Requester id of the sending function (bus << 8 | slot << 3 | function), as `msi-map` passes it to the ITS.
    pub device_id: u32,
}

/// Delivers message-signalled interrupts (`KVM_SIGNAL_MSI`, or a routed irqfd).
///
/// Called from vCPU and worker threads with a lock of the device held: it must not block or call the device back.
pub trait MsiSink: Send + Sync {
    /// Delivers one message.
    ///
    /// # Errors
    /// The controller refused the message; the device logs it and goes on, as hardware would.
    fn signal(&self, message: MsiMessage) -> io::Result<()>;
}
