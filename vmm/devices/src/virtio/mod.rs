//! Virtio 1.2 devices on PCI. Each device is a folder; [`VirtioPci`] carries any of them.

pub mod balloon;
pub mod blk;
pub mod console;
mod host;
mod interrupts;
pub mod net;
mod pci;
pub mod pmem;
mod queue;
pub mod rng;
pub mod vhost_user;
pub mod vsock;
mod worker;

use std::io;
use std::sync::Arc;

pub use host::{DeviceEvent, DeviceHost, NoDeviceHost, ThreadKind};
pub use pci::{VirtioPci, VirtioPciConfig, VirtioPciError};
pub use queue::{Chain, DeviceQueue, QueueError};
pub use worker::{EventHandler, WorkerSpec};

use interrupts::Signals;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::EventFd;

pub use crate::poller::Source;

/// Features of split queues that devices of ours can do.
const RING_FEATURES: u64 = 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// A device type behind the virtio transport.
///
/// The device itself is the part that survives resets; [`VirtioDevice::activate`] makes the parts that serve the queues
/// and live on threads of their own until the guest resets the device.
pub trait VirtioDevice: Send + Sync {
    /// Virtio device id (virtio 1.2, section 5).
    fn device_id(&self) -> u16;
    /// PCI class code: class, subclass, programming interface.
    fn class(&self) -> u32;
    /// Kind of its threads.
    fn thread_kind(&self) -> ThreadKind;
    /// Largest size of each queue, each a power of two. Their number is the number of queues.
    fn queue_sizes(&self) -> &[u16];
    /// Device-specific feature bits (0 to 23). The transport adds the others.
    fn features(&self) -> u64;
    /// Feature bits of the queues that it can do, a part of the default.
    fn ring_features(&self) -> u64 {
        RING_FEATURES
    }
    /// Fills `data`, which is zero, from `offset` of the device-specific configuration space.
    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}
    /// The driver writes to the device-specific configuration space.
    fn write_config(&self, _offset: u64, _data: &[u8]) {}
    /// The device is behind a transport now. Called once, before anything that a driver causes.
    fn connected(&self, _notifier: ConfigNotifier) {}
    /// Builds the handlers for queues that the driver has just started.
    ///
    /// # Errors
    /// [`ActivateError`]: the device asks the guest for a reset.
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError>;
    /// The driver reset the device; its threads have ended.
    fn reset(&self) {}
    /// What it has done since it was made, by name.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Tells the driver that the configuration space has changed.
#[derive(Clone)]
pub struct ConfigNotifier(Arc<Signals>);

impl ConfigNotifier {
    /// The configuration space has changed, as reads show already.
    pub fn changed(&self) {
        self.0.config_changed();
    }

    /// The device cannot go on until the driver resets it.
    pub fn needs_reset(&self) {
        self.0.needs_reset();
    }
}

/// The part of a configuration space that an access sees.
pub(crate) fn read_config_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    for (byte, &value) in data.iter_mut().zip(config.iter().skip(skip)) {
        *byte = value;
    }
}

/// What the driver set up before it started the device.
pub struct Activation {
    /// Feature bits that both sides agreed on.
    pub features: u64,
    /// The queues in their order; `None` where the driver did not enable one.
    pub queues: Vec<Option<DeviceQueue>>,
    /// What the driver rings, by queue, for whom the worker does not serve it.
    pub doorbells: Vec<Arc<EventFd>>,
}

impl Activation {
    /// All `N` queues of the device.
    ///
    /// # Errors
    /// [`ActivateError::QueueMissing`] when the driver left one of them disabled.
    pub fn all_queues<const N: usize>(self) -> Result<[DeviceQueue; N], ActivateError> {
        let enabled: Vec<DeviceQueue> = self.queues.into_iter().flatten().collect();
        let found = enabled.len();
        enabled.try_into().map_err(|_| ActivateError::QueueMissing { found, needed: N })
    }
}

/// Why a device did not start although the driver set DRIVER_OK.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The driver enabled too few queues.
    #[error("the guest driver enabled {found} queues, the device needs {needed}")]
    QueueMissing {
        /// Queues that are enabled.
        found: usize,
        /// Queues of the device.
        needed: usize,
    },
    /// The queue's size or the place of its rings is not usable.
    #[error("the guest driver set up queue {index} wrongly")]
    Queue {
        /// Number of the queue.
        index: u16,
        /// What is wrong.
        #[source]
        source: QueueError,
    },
    /// The host refused a file descriptor or a thread.
    #[error("the host cannot start the device")]
    Host(#[from] io::Error),
}

/// An error with what caused it.
pub(crate) struct Chained<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chained<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        self.0.source().map_or(Ok(()), |source| write!(formatter, ": {}", Self(source)))
    }
}

/// A device id of the bindings as the transport takes it.
const fn id(id: u32) -> u16 {
    let [low, high, ..] = id.to_le_bytes();
    u16::from_le_bytes([low, high])
}
