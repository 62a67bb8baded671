//! The threads that serve a device's queues.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, sched_setaffinity};
use tracing::{debug, error, warn};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::host::{DeviceEvent, DeviceHost, ThreadKind};
use super::interrupts::Signals;
use super::queue::QueueError;
use crate::log_limit::LogLimit;
use crate::poller::{Poller, Ready, Source};

/// Longest thread name that Linux keeps.
const THREAD_NAME: usize = 15;

/// The running half of a device, or a part of it. All calls come from its own thread; any error ends the work until the
/// guest resets the device.
pub trait EventHandler: Send {
    /// The driver rang the doorbell of a queue (by its number in the device), or the device has just started.
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

    /// The thread has just started: called before anything else.
    ///
    /// # Errors
    /// [`QueueError`]: the device needs a reset.
    fn start(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Event descriptors that are waited for from the start to the end. Asked once.
    fn events(&self) -> Vec<Arc<EventFd>> {
        Vec::new()
    }

    /// The event descriptor of that place in [`EventHandler::events`] was signalled, and has been read.
    ///
    /// # Errors
    /// [`QueueError`]: the device needs a reset.
    fn event(&mut self, _index: usize) -> Result<(), QueueError> {
        Ok(())
    }

    /// The device is to stand still: nothing may touch guest memory after this returns, until the next other call.
    /// Work that was handed to somebody else (asynchronous I/O) is waited for.
    ///
    /// # Errors
    /// [`QueueError`]: the device needs a reset.
    fn pause(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    /// The device goes on where [`EventHandler::pause`] stopped it.
    ///
    /// # Errors
    /// [`QueueError`]: the device needs a reset.
    fn resume(&mut self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A thread that a device wants.
pub struct WorkerSpec {
    /// What tells the thread from the device's others, such as `_q0`; nothing where there is only one.
    pub suffix: String,
    /// Numbers of the queues that it serves.
    pub queues: Vec<usize>,
    /// The host's processors on which it may run; none for any.
    pub host_cpus: Vec<usize>,
    /// What serves them.
    pub handler: Box<dyn EventHandler>,
}

impl WorkerSpec {
    /// The only thread of a device with `queues` queues.
    pub fn only(queues: usize, handler: impl EventHandler + 'static) -> Vec<Self> {
        let queues = (0..queues).collect();
        vec![Self { suffix: String::new(), queues, host_cpus: Vec::new(), handler: Box::new(handler) }]
    }
}

/// A running worker; stops and joins its thread when dropped.
pub(super) struct Worker {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread needs besides the handler.
pub(super) struct WorkerContext {
    /// Name of the device.
    pub(super) id: String,
    pub(super) kind: ThreadKind,
    /// All doorbells of the device.
    pub(super) doorbells: Vec<Arc<EventFd>>,
    pub(super) signals: Arc<Signals>,
    pub(super) failures: Arc<LogLimit>,
    pub(super) host: Arc<dyn DeviceHost>,
}

impl Worker {
    pub(super) fn spawn(context: &Arc<WorkerContext>, spec: WorkerSpec) -> io::Result<Self> {
        let control = Arc::new(Control::new()?);
        let mut poller = Poller::new()?;
        poller.add(&control.wake)?;
        let mut queues = Vec::new();
        for queue in spec.queues {
            let doorbell = context.doorbells.get(queue).ok_or(io::ErrorKind::InvalidInput)?;
            poller.add(doorbell.as_ref())?;
            queues.push((queue, Arc::clone(doorbell)));
        }
        let events = spec.handler.events();
        for event in &events {
            poller.add(event.as_ref())?;
        }
        let mut name = format!("{}{}", context.id, spec.suffix);
        name.truncate(name.floor_char_boundary(THREAD_NAME));
        let mut thread = Thread {
            context: Arc::clone(context),
            control: Arc::clone(&control),
            poller,
            queues,
            events,
            host_cpus: spec.host_cpus,
            handler: spec.handler,
        };
        let thread = crate::threads::spawn(name, move || thread.serve())?;
        Ok(Self { control, thread: Some(thread) })
    }

    /// Returns when the thread stands still.
    pub(super) fn pause(&self) {
        self.control.order(Order::Pause);
        let state = self.control.state();
        let wait = |state: &mut ControlState| !state.parked && state.order == Order::Pause;
        drop(self.control.changed.wait_while(state, wait));
    }

    pub(super) fn resume(&self) {
        self.control.order(Order::Run);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.control.order(Order::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("a device thread panicked");
        }
    }
}

/// What the thread is told from outside.
struct Control {
    wake: EventFd,
    state: Mutex<ControlState>,
    changed: Condvar,
}

struct ControlState {
    order: Order,
    /// The thread stands still, or has ended.
    parked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Pause,
    Stop,
}

impl Control {
    fn new() -> io::Result<Self> {
        Ok(Self {
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            state: Mutex::new(ControlState { order: Order::Run, parked: false }),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        self.state().order = order;
        self.changed.notify_all();
        // A counter that is full has woken the thread already.
        let _ = self.wake.write(1);
    }

    /// Stands still for as long as it is told to. Returns whether to go on.
    fn obey(&self) -> bool {
        let _ = self.wake.read();
        let mut state = self.state();
        state.parked = state.order == Order::Pause;
        if state.parked {
            self.changed.notify_all();
            state = self
                .changed
                .wait_while(state, |state| state.order == Order::Pause)
                .unwrap_or_else(PoisonError::into_inner);
            state.parked = false;
        }
        state.order == Order::Run
    }
}

struct Thread {
    context: Arc<WorkerContext>,
    control: Arc<Control>,
    poller: Poller,
    /// Queues in the order in which the poller has their doorbells.
    queues: Vec<(usize, Arc<EventFd>)>,
    /// Event descriptors of the handler, which the poller has behind them.
    events: Vec<Arc<EventFd>>,
    host_cpus: Vec<usize>,
    handler: Box<dyn EventHandler>,
}

#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("cannot wait for events: {0}")]
    Poll(#[from] io::Error),
    #[error("the thread cannot run on the processors that it shall: {0}")]
    Affinity(#[source] io::Error),
    #[error("the thread could not be confined: {0}")]
    Confine(#[source] io::Error),
}

impl Thread {
    fn serve(&mut self) {
        let context = Arc::clone(&self.context);
        match self.run() {
            Ok(()) => debug!(device = context.id, "device thread stops"),
            Err(error) => {
                if let Some(count) = context.failures.hit() {
                    warn!(device = context.id, count, "device stops until the guest resets it: {error}");
                }
                context.signals.needs_reset();
                context.host.event(&context.id, DeviceEvent::Failed(error.to_string()));
            }
        }
        self.control.state().parked = true;
        self.control.changed.notify_all();
    }

    /// Serves events until told to stop, which is `Ok`.
    fn run(&mut self) -> Result<(), WorkerError> {
        if !self.host_cpus.is_empty() {
            let mut set = CpuSet::new();
            self.host_cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
            sched_setaffinity(None, &set).map_err(|errno| WorkerError::Affinity(errno.into()))?;
        }
        self.context.host.thread_starts(self.context.kind).map_err(WorkerError::Confine)?;
        self.handler.start()?;
        // Buffers may have been offered before the device started.
        for (queue, _) in &self.queues {
            self.handler.queue_event(*queue)?;
        }
        loop {
            for ready in self.poller.wait(&self.handler.sources())? {
                match ready {
                    Ready::Permanent(0) => {
                        let pauses = self.control.state().order == Order::Pause;
                        if pauses {
                            self.handler.pause()?;
                        }
                        if !self.control.obey() {
                            return Ok(());
                        }
                        if pauses {
                            self.handler.resume()?;
                        }
                    }
                    Ready::Permanent(number) => {
                        if let Some((queue, doorbell)) = self.queues.get(number - 1) {
                            // Cleared before the queue is served, so that a ring during the work is not lost. Being
                            // empty already is no harm: the queue is served once more.
                            let _ = doorbell.read();
                            self.handler.queue_event(*queue)?;
                        } else if let Some(index) = (number - 1).checked_sub(self.queues.len())
                            && let Some(event) = self.events.get(index)
                        {
                            let _ = event.read();
                            self.handler.event(index)?;
                        }
                    }
                    Ready::Source(token, events) => self.handler.source_event(token, events)?,
                }
            }
        }
    }
}
