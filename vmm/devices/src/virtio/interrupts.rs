//! Interrupts and device status: what the transport (vCPU threads) and the worker of a device share.

use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use virtio_bindings::virtio_config::{VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET};

use crate::pci::Msix;

/// Vector number that stands for "no interrupt" (virtio 1.2, 4.1.4.3).
pub(crate) const NO_VECTOR: u16 = 0xffff;

const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// Device status (virtio 1.2, 2.1) and the interrupts of one device.
pub(crate) struct Signals {
    pub(crate) msix: Msix,
    status: AtomicU8,
    isr: AtomicU8,
    config_vector: AtomicU16,
    queue_vectors: Vec<AtomicU16>,
    /// Number of the configuration space's present state (virtio 1.2, 2.5.1).
    generation: AtomicU8,
}

impl Signals {
    pub(crate) fn new(msix: Msix, queues: usize) -> Self {
        Self {
            msix,
            status: AtomicU8::new(0),
            isr: AtomicU8::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            generation: AtomicU8::new(0),
        }
    }

    pub(crate) fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    pub(crate) fn add_status(&self, bits: u8) {
        self.status.fetch_or(bits, Ordering::AcqRel);
    }

    pub(crate) fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    /// The configuration space has changed: tells a driver that is live.
    pub(crate) fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if self.status() & low8(VIRTIO_CONFIG_S_DRIVER_OK) != 0 {
            self.config_interrupt();
        }
    }

    /// The device cannot go on: sets DEVICE_NEEDS_RESET and, once the driver is live, tells it (virtio 1.2, 2.1.2).
    pub(crate) fn needs_reset(&self) {
        let before = self.status.fetch_or(low8(VIRTIO_CONFIG_S_NEEDS_RESET), Ordering::AcqRel);
        if before & low8(VIRTIO_CONFIG_S_DRIVER_OK) != 0 {
            self.config_interrupt();
        }
    }

    fn config_interrupt(&self) {
        self.isr.fetch_or(ISR_CONFIG, Ordering::AcqRel);
        self.msix.signal(self.config_vector());
    }

    /// A used buffer waits in `queue`.
    pub(crate) fn queue(&self, queue: u16) {
        self.isr.fetch_or(ISR_QUEUE, Ordering::AcqRel);
        self.msix.signal(self.queue_vector(queue));
    }

    /// Reads and clears the ISR status byte (virtio 1.2, 4.1.4.5).
    pub(crate) fn take_isr(&self) -> u8 {
        self.isr.swap(0, Ordering::AcqRel)
    }

    pub(crate) fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Acquire)
    }

    pub(crate) fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(vector, Ordering::Release);
    }

    pub(crate) fn queue_vector(&self, queue: u16) -> u16 {
        self.queue_vectors.get(usize::from(queue)).map_or(NO_VECTOR, |vector| vector.load(Ordering::Acquire))
    }

    pub(crate) fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(slot) = self.queue_vectors.get(usize::from(queue)) {
            slot.store(vector, Ordering::Release);
        }
    }

    /// Back to the state before the driver came. The worker must have ended, or it could signal afterwards.
    pub(crate) fn reset(&self) {
        self.status.store(0, Ordering::Release);
        self.isr.store(0, Ordering::Release);
        self.config_vector.store(NO_VECTOR, Ordering::Release);
        for vector in &self.queue_vectors {
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.msix.clear_pending();
    }
}

/// A status or feature constant of the bindings as the byte register that holds it.
pub(crate) const fn low8(bits: u32) -> u8 {
    bits.to_le_bytes()[0]
}
