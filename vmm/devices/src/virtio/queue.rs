//! A started virtqueue as a device sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::debug;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT, Reader, Writer};
use vm_memory::{Bytes, GuestAddress};

use super::Chained;
use super::interrupts::Signals;
use super::vhost_user::ServerError;
use crate::dma::DmaMemory;

/// What ends the work on a queue. The guest must reset the device.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The ring itself is broken.
    #[error("virtqueue: {0}")]
    Ring(virtio_queue::Error),
    /// An access was refused; [`DmaMemory`] has logged which.
    #[error("virtqueue: the device may not access the guest memory that it was given")]
    Dma,
    /// The server that has the device.
    #[error("{}", Chained(.0))]
    Server(#[from] ServerError),
    /// The kernel no longer carries out what it is asked to do.
    #[error("asynchronous I/O of the host: {0}")]
    Host(#[from] std::io::Error),
}

impl From<virtio_queue::Error> for QueueError {
    fn from(error: virtio_queue::Error) -> Self {
        Self::Ring(error)
    }
}

/// Where the driver put a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueueLayout {
    pub(crate) size: u16,
    pub(crate) descriptors: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
}

/// Makes all queues of a device look empty, so that its threads come to rest although buffers are offered without end: a
/// guest can have a device feed itself, by a buffer that lies in the ring.
#[derive(Debug, Default)]
pub(crate) struct Halt(AtomicBool);

impl Halt {
    /// Whether there are to be no more buffers.
    pub(crate) fn set(&self, halted: bool) {
        self.0.store(halted, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// One queue: takes buffers from the driver, returns them, interrupts as the driver wishes.
pub struct DeviceQueue {
    index: u16,
    queue: Queue,
    memory: Arc<DmaMemory>,
    signals: Arc<Signals>,
    halt: Arc<Halt>,
}

impl DeviceQueue {
    pub(crate) fn new(
        index: u16,
        layout: QueueLayout,
        event_idx: bool,
        memory: Arc<DmaMemory>,
        signals: Arc<Signals>,
        halt: Arc<Halt>,
    ) -> Result<Self, QueueError> {
        let mut queue = Queue::new(layout.size)?;
        queue.try_set_desc_table_address(GuestAddress(layout.descriptors))?;
        queue.try_set_avail_ring_address(GuestAddress(layout.driver))?;
        queue.try_set_used_ring_address(GuestAddress(layout.device))?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        if !queue.is_valid(memory.as_ref()) {
            return Err(QueueError::Dma);
        }
        Ok(Self { index, queue, memory, signals, halt })
    }

    /// The next buffer that the driver offers. `None` leaves the doorbell armed: the driver will ring it for the next.
    /// While the device is to stand still there is none, and the doorbell is rung when it goes on.
    ///
    /// # Errors
    /// [`QueueError`] when the ring cannot be read.
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        loop {
            if self.halt.is_set() {
                return Ok(None);
            }
            let next = self.queue.iter(self.memory.clone())?.next();
            if self.memory.faulted() {
                return Err(QueueError::Dma);
            }
            if let Some(chain) = next {
                return Ok(Some(Chain { chain, memory: self.memory.clone() }));
            }
            // Arms the doorbell and looks again: a buffer may have come in between.
            if !self.queue.enable_notification(self.memory.as_ref())? {
                return Ok(None);
            }
        }
    }

    /// Puts the buffer that was popped last back, to be popped again.
    pub fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a buffer to the driver with `written` bytes in it.
    ///
    /// # Errors
    /// [`QueueError`] when the used ring cannot be written or `head` is not a descriptor of this queue.
    pub fn complete(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        Ok(self.queue.add_used(self.memory.as_ref(), head, written)?)
    }

    /// Writes a byte of a buffer that is not returned yet.
    ///
    /// # Errors
    /// [`QueueError::Dma`] when the device may not access it, or may no longer.
    pub(crate) fn write_byte(&self, address: u64, value: u8) -> Result<(), QueueError> {
        self.memory.write_obj(value, GuestAddress(address)).map_err(|_| QueueError::Dma)
    }

    /// Interrupts the driver if it wants to hear of the buffers that were returned.
    ///
    /// # Errors
    /// [`QueueError`] when the ring cannot be read.
    pub fn notify(&mut self) -> Result<(), QueueError> {
        if self.queue.needs_notification(self.memory.as_ref())? {
            self.signals.queue(self.index);
        }
        Ok(())
    }

    /// Interrupts the driver, for somebody else who has returned buffers and knows its wishes.
    pub(crate) fn interrupt(&self) {
        self.signals.queue(self.index);
    }

    /// Where the driver put it.
    pub(crate) fn layout(&self) -> QueueLayout {
        QueueLayout {
            size: self.queue.size(),
            descriptors: self.queue.desc_table(),
            driver: self.queue.avail_ring(),
            device: self.queue.used_ring(),
        }
    }

    /// Returns a buffer that cannot hold what the device type demands, with nothing in it.
    ///
    /// # Errors
    /// As [`DeviceQueue::complete`].
    pub fn reject(&mut self, head: u16, reason: &str) -> Result<(), QueueError> {
        debug!(queue = self.index, head, "malformed request from the guest: {reason}");
        self.complete(head, 0)
    }
}

/// A buffer of the driver: device-readable parts, then device-writable ones.
pub struct Chain {
    chain: DescriptorChain<Arc<DmaMemory>>,
    memory: Arc<DmaMemory>,
}

impl Chain {
    /// Number of the first descriptor, to return the buffer with.
    pub fn head(&self) -> u16 {
        self.chain.head_index()
    }

    /// The device-readable bytes.
    ///
    /// # Errors
    /// [`QueueError`] when part of the buffer is out of bounds.
    pub fn reader(&self) -> Result<Reader<'_>, QueueError> {
        Ok(Reader::new(self.memory.as_ref(), self.chain.clone())?)
    }

    /// Guest memory as the device may see it.
    pub(crate) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    /// Where the device-readable parts lie, which are neither read nor written by this.
    pub(crate) fn readable_ranges(&self) -> impl Iterator<Item = (u64, u32)> {
        self.chain.clone().readable().map(|part| (part.addr().0, part.len()))
    }

    /// Where the device-writable parts lie, which are neither read nor written by this.
    pub fn writable_ranges(&self) -> impl Iterator<Item = (u64, u32)> {
        self.chain.clone().writable().map(|part| (part.addr().0, part.len()))
    }

    /// Number of the device-writable bytes, as far as the driver says: no part of the buffer is looked at.
    pub fn writable_len(&self) -> usize {
        self.writable_ranges().fold(0, |len: usize, (_, part)| len.saturating_add(part as usize))
    }

    /// The device-writable bytes.
    ///
    /// # Errors
    /// [`QueueError`] when part of the buffer is out of bounds.
    pub fn writer(&self) -> Result<Writer<'_>, QueueError> {
        Ok(Writer::new(self.memory.as_ref(), self.chain.clone())?)
    }
}
