//! The thread that serves a started device: it sleeps until a doorbell, a backend descriptor or the stop event wakes it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::{debug, error, warn};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::interrupts::Signals;
use super::queue::QueueError;
use crate::log_limit::LogLimit;
use crate::poller::{Poller, Ready, Source};

/// The running half of a device. All calls come from its own thread; any error ends the work until the guest resets
/// the device.
pub trait EventHandler: Send {
    /// The driver rang the doorbell of a queue, or the device has just started.
    ///
    /// # Errors
    /// [`QueueError`]: the device needs a reset.
    fn queue_event(&mut self, queue: usize) -> Result<(), QueueError>;

    /// The descriptors to wait for now. Asked before each sleep, so a descriptor that cannot be served at the moment is
    /// simply left out.
    fn sources(&self) -> Vec<Source<'_>> {
        Vec::new()
    }

    /// A descriptor is ready, has failed or was hung up.
    ///
    /// # Errors
    /// [`QueueError`]: the device needs a reset.
    fn source_event(&mut self, _token: u64, _ready: EventSet) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A running worker; stops and joins its thread when dropped.
pub(super) struct Worker {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread needs besides the handler.
pub(super) struct WorkerContext {
    pub(super) name: String,
    pub(super) doorbells: Vec<Arc<EventFd>>,
    pub(super) signals: Arc<Signals>,
    pub(super) failures: Arc<LogLimit>,
}

impl Worker {
    pub(super) fn spawn(context: WorkerContext, handler: Box<dyn EventHandler>) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let mut poller = Poller::new()?;
        poller.add(stop.as_ref())?;
        for doorbell in &context.doorbells {
            poller.add(doorbell.as_ref())?;
        }
        let name = context.name.clone();
        // The thread keeps the stop event open as long as its poller may look at it.
        let thread_stop = stop.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            serve(&context, poller, handler);
            drop(thread_stop);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Err(error) = self.stop.write(1) {
            error!("cannot stop a device thread: {error}");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("a device thread panicked");
        }
    }
}

fn serve(context: &WorkerContext, mut poller: Poller, mut handler: Box<dyn EventHandler>) {
    match run(context, &mut poller, handler.as_mut()) {
        Ok(()) => debug!(device = context.name, "device thread stops"),
        Err(error) => {
            if let Some(count) = context.failures.hit() {
                warn!(device = context.name, count, "device stops until the guest resets it: {error}");
            }
            context.signals.needs_reset();
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("cannot wait for events: {0}")]
    Poll(#[from] io::Error),
}

/// Serves events until told to stop, which is `Ok`.
fn run(
    context: &WorkerContext,
    poller: &mut Poller,
    handler: &mut dyn EventHandler,
) -> Result<(), WorkerError> {
    // Buffers may have been offered before the device started.
    for queue in 0..context.doorbells.len() {
        handler.queue_event(queue)?;
    }
    loop {
        for ready in poller.wait(&handler.sources())? {
            match ready {
                Ready::Permanent(0) => return Ok(()),
                Ready::Permanent(number) => {
                    let queue = number - 1;
                    if let Some(doorbell) = context.doorbells.get(queue) {
                        // Cleared before the queue is served, so that a ring during the work is not lost. Being empty
                        // already is no harm: the queue is served once more.
                        let _ = doorbell.read();
                    }
                    handler.queue_event(queue)?;
                }
                Ready::Source(token, events) => handler.source_event(token, events)?,
            }
        }
    }
}
