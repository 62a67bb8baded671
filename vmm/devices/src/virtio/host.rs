//! What a virtio device has to do with the process that it is part of.

use std::fmt::Debug;
use std::io;

/// Kind of a device's thread, by which the VMM chooses what the thread may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadKind {
    /// Serves a disk.
    Block,
    /// Serves a network interface.
    Net,
    /// Serves entropy.
    Rng,
    /// Serves the socket between guest and host.
    Vsock,
    /// Serves a console.
    Console,
    /// Takes memory from the guest and gives it back.
    Balloon,
    /// Writes persistent memory to its file.
    Pmem,
    /// Waits for the guest to feed it.
    Watchdog,
    /// Stands for a device that another process serves.
    VhostUser,
}

/// Something that happened to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The guest's driver started it.
    Activated,
    /// The guest's driver reset it.
    Reset,
    /// It cannot go on until the guest resets it, for the reason that is given.
    Failed(String),
}

/// The process in which devices live.
pub trait DeviceHost: Debug + Send + Sync {
    /// Called by each thread of a device before anything else.
    ///
    /// # Errors
    /// The thread could not be confined. The device then does not run.
    fn thread_starts(&self, kind: ThreadKind) -> io::Result<()>;

    /// Something happened to the device of that name. Called by vCPU threads and by threads of devices.
    fn event(&self, id: &str, event: DeviceEvent);
}

/// A process that neither confines threads nor listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDeviceHost;

impl DeviceHost for NoDeviceHost {
    fn thread_starts(&self, _kind: ThreadKind) -> io::Result<()> {
        Ok(())
    }

    fn event(&self, _id: &str, _event: DeviceEvent) {}
}
