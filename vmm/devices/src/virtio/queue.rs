//! A started virtqueue as a device sees it.

use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use tracing::debug;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT, Reader, Writer};
use vm_memory::{Bytes, GuestAddress};

use super::Chained;
use super::interrupts::Signals;
use super::vhost_user::ServerError;
use crate::dma::DmaMemory;

/// Flags and index before the entries of a ring, and sizes of entries (virtio 1.2, 2.7.6 and 2.7.8), in bytes.
const AVAIL_HEADER: u64 = 4;
const AVAIL_ELEMENT: u64 = 2;
const USED_HEADER: u64 = 4;
const USED_ELEMENT: u64 = 8;

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
    /// Index of the used ring up to which the driver's wish to be interrupted was looked at.
    told: Wrapping<u16>,
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
        Ok(Self { index, queue, memory, signals, halt, told: Wrapping(0) })
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

    /// Returns buffers that belong together, each with so many bytes in it: the driver sees all of them or none.
    ///
    /// # Errors
    /// As [`DeviceQueue::complete`].
    pub fn complete_together(&mut self, buffers: &[(u16, u32)]) -> Result<(), QueueError> {
        let Some((&(last, written), earlier)) = buffers.split_last() else { return Ok(()) };
        let size = self.queue.size();
        let mut next = Wrapping(self.queue.next_used());
        for &(head, written) in earlier {
            let place = next.0.checked_rem(size).filter(|_| head < size);
            let place = place.ok_or(virtio_queue::Error::InvalidDescriptorIndex)?;
            let address = self.queue.used_ring() + USED_HEADER + USED_ELEMENT * u64::from(place);
            let element = u64::from(head) | u64::from(written) << 32;
            self.memory.write_obj(element.to_le(), GuestAddress(address)).map_err(|_| QueueError::Dma)?;
            next += 1;
        }
        // The driver looks at the index only, which comes with the last.
        self.queue.set_next_used(next.0);
        self.complete(last, written)
    }

    /// Writes a byte of a buffer that is not returned yet.
    ///
    /// # Errors
    /// [`QueueError::Dma`] when the device may not access it, or may no longer.
    pub(crate) fn write_byte(&self, address: u64, value: u8) -> Result<(), QueueError> {
        self.memory.write_obj(value, GuestAddress(address)).map_err(|_| QueueError::Dma)
    }

    /// Guest memory as the device may see it.
    pub(crate) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    /// Interrupts the driver if it wants to hear of the buffers that were returned since this was last called.
    ///
    /// # Errors
    /// [`QueueError`] when the ring cannot be read.
    pub fn notify(&mut self) -> Result<(), QueueError> {
        let now = Wrapping(self.queue.next_used());
        let before = std::mem::replace(&mut self.told, now);
        if now != before && self.is_wanted(before, now)? {
            self.signals.queue(self.index);
        }
        Ok(())
    }

    /// Whether the driver wants an interrupt for the buffers from `before` to `now` (virtio 1.2, 2.7.7).
    fn is_wanted(&self, before: Wrapping<u16>, now: Wrapping<u16>) -> Result<bool, QueueError> {
        // What was returned is to be seen before the driver's wish is read: it looks for more after it has written it.
        fence(Ordering::SeqCst);
        let driver = self.queue.avail_ring();
        let load = |address: u64| {
            let value = self.memory.load::<u16>(GuestAddress(address), Ordering::Relaxed);
            value.map(u16::from_le).map_err(|_| QueueError::Dma)
        };
        if !self.queue.event_idx_enabled() {
            return Ok(u32::from(load(driver)?) & VRING_AVAIL_F_NO_INTERRUPT == 0);
        }
        let wanted = load(driver + AVAIL_HEADER + AVAIL_ELEMENT * u64::from(self.queue.size()))?;
        Ok(now - Wrapping(wanted) - Wrapping(1) < now - before)
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

    /// The device-writable bytes.
    ///
    /// # Errors
    /// [`QueueError`] when part of the buffer is out of bounds.
    pub fn writer(&self) -> Result<Writer<'_>, QueueError> {
        Ok(Writer::new(self.memory.as_ref(), self.chain.clone())?)
    }

    /// The same, for a buffer of which nothing else is needed any more; `memory` is that of its queue.
    ///
    /// # Errors
    /// As [`Chain::writer`].
    pub(crate) fn into_writer(self, memory: &DmaMemory) -> Result<Writer<'_>, QueueError> {
        Ok(Writer::new(memory, self.chain)?)
    }
}

#[cfg(test)]
mod tests;
