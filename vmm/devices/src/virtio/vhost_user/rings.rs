//! The thread that stands for a server: it hands the rings over, passes interrupts on and sees the server go.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tracing::warn;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::server::{Server, ServerError};
use crate::virtio::net::control::Control;
use crate::virtio::{DeviceQueue, EventHandler, QueueError, Source};

/// A queue that the server runs.
pub(super) struct ServedQueue {
    /// Number of the queue.
    pub(super) index: usize,
    /// Where it is, and whom it interrupts.
    pub(super) queue: DeviceQueue,
    /// Rung by the guest.
    pub(super) kick: Arc<EventFd>,
    /// Rung by the server.
    pub(super) call: Arc<EventFd>,
    /// Next entry of the available ring.
    pub(super) base: u16,
}

pub(super) struct Rings {
    server: Arc<Server>,
    memory: Arc<GuestMemoryMmap>,
    features: u64,
    queues: Vec<ServedQueue>,
    control: Option<Control>,
    watch: Option<UnixStream>,
}

impl Rings {
    pub(super) fn new(
        server: Arc<Server>,
        memory: Arc<GuestMemoryMmap>,
        features: u64,
        queues: Vec<ServedQueue>,
        control: Option<Control>,
    ) -> Self {
        Self { server, memory, features, queues, control, watch: None }
    }

    fn hand_over(&mut self) -> Result<(), ServerError> {
        self.server.start(self.features, &self.memory, &self.queues)?;
        self.watch = Some(self.server.watch()?);
        Ok(())
    }
}

impl EventHandler for Rings {
    fn start(&mut self) -> Result<(), QueueError> {
        Ok(self.hand_over()?)
    }

    fn queue_event(&mut self, queue: usize) -> Result<(), QueueError> {
        self.control.as_mut().map_or(Ok(()), |control| control.queue_event(queue))
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let watch = self.watch.iter();
        watch.map(|watch| Source { token: 0, fd: watch.as_fd(), events: EventSet::READ_HANG_UP }).collect()
    }

    fn source_event(&mut self, _token: u64, _ready: EventSet) -> Result<(), QueueError> {
        Err(self.server.gone().into())
    }

    fn events(&self) -> Vec<Arc<EventFd>> {
        self.queues.iter().map(|queue| Arc::clone(&queue.call)).collect()
    }

    fn event(&mut self, index: usize) -> Result<(), QueueError> {
        if let Some(served) = self.queues.get(index) {
            served.queue.interrupt();
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<(), QueueError> {
        for (ring, base) in self.server.stop()? {
            if let Some(queue) = self.queues.iter_mut().find(|queue| queue.index == ring) {
                queue.base = base;
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), QueueError> {
        Ok(self.hand_over()?)
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        // The guest takes its memory back, or has ended.
        if let Err(error) = self.server.stop() {
            warn!("{error}");
        }
    }
}
