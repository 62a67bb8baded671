//! Memory balloon (virtio 1.2, 5.5): the guest gives pages up and takes them back, reports what it does not use, and
//! tells how much it has.

mod statistics;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::event::{EventfdFlags, eventfd};
use tracing::debug;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use vmm_sys_util::epoll::EventSet;

use self::statistics::Statistics;
use super::{
    ActivateError, Activation, Chain, ConfigNotifier, DeviceQueue, EventHandler, QueueError, Source,
    ThreadKind, VirtioDevice, WorkerSpec,
};

// Feature bits (5.5.3).
const VIRTIO_BALLOON_F_STATS_VQ: u32 = 1;
const VIRTIO_BALLOON_F_DEFLATE_ON_OOM: u32 = 2;
const VIRTIO_BALLOON_F_REPORTING: u32 = 5;

/// Size of the pages in which a balloon counts, whatever the guest's or the host's pages are (5.5.6).
pub const PAGE: u64 = 4096;

/// Inflate and deflate, statistics, reporting.
const QUEUE_SIZES: [u16; 4] = [128; 4];
/// Page numbers that are taken together. Linux sends 256 of them at once.
const NUMBERS_AT_ONCE: usize = 1024;
/// How often numbers are taken from one request; what is left of it stays with the guest. Without a bound, whoever pauses or
/// resets the device would wait for as long as a request takes that is as large as all of the guest's memory.
const PARTS_OF_A_REQUEST: usize = 16;
/// `num_pages` and `actual`.
const CONFIG_LEN: usize = 8;
const ACTUAL: u64 = 4;

/// Takes pages back from the guest.
pub trait Reclaim: Send + Sync {
    /// Gives the host what lies at `gpa`; it reads as zeroes when the guest uses it again.
    ///
    /// # Errors
    /// The range is not guest memory, or not whole pages of the host: nothing has changed.
    fn reclaim(&self, gpa: u64, len: u64) -> io::Result<()>;
}

/// How a balloon behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonOptions {
    /// Bytes that the guest is to give up at first.
    pub target: u64,
    /// Whether the guest may take pages back before it kills a process for want of memory.
    pub deflate_on_oom: bool,
    /// Whether the guest reports pages that it does not use.
    pub reporting: bool,
}

/// A virtio balloon.
pub struct Balloon {
    state: Arc<State>,
    queue_sizes: &'static [u16],
    features: u64,
    notifier: OnceLock<ConfigNotifier>,
}

struct State {
    reclaim: Box<dyn Reclaim>,
    /// Pages that the guest is to give up.
    target: AtomicU32,
    /// Pages that it has given up, by its own account.
    actual: AtomicU32,
    statistics: Statistics,
    /// Asks the guest for statistics.
    refresh: OwnedFd,
    inflated: AtomicU64,
    deflated: AtomicU64,
    reported: AtomicU64,
    ignored: AtomicU64,
}

impl Balloon {
    /// A balloon whose pages go to `reclaim`.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn new(reclaim: Box<dyn Reclaim>, options: BalloonOptions) -> io::Result<Self> {
        let mut features = 1 << VIRTIO_BALLOON_F_STATS_VQ;
        let mut queues = QUEUE_SIZES.len() - 1;
        if options.deflate_on_oom {
            features |= 1 << VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
        }
        if options.reporting {
            features |= 1 << VIRTIO_BALLOON_F_REPORTING;
            queues += 1;
        }
        let state = State {
            reclaim,
            target: pages(options.target).into(),
            actual: AtomicU32::new(0),
            statistics: Statistics::default(),
            refresh: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            inflated: AtomicU64::new(0),
            deflated: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
        };
        let queue_sizes = QUEUE_SIZES.get(..queues).unwrap_or(&QUEUE_SIZES);
        Ok(Self { state: Arc::new(state), queue_sizes, features, notifier: OnceLock::new() })
    }

    /// Asks the guest to give up `bytes` altogether.
    pub fn set_target(&self, bytes: u64) {
        self.state.target.store(pages(bytes), Ordering::Relaxed);
        if let Some(notifier) = self.notifier.get() {
            notifier.changed();
        }
    }

    /// Bytes that the guest has given up, by its own account.
    pub fn actual(&self) -> u64 {
        u64::from(self.state.actual.load(Ordering::Relaxed)) * PAGE
    }
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)
}

impl VirtioDevice for Balloon {
    fn device_id(&self) -> u16 {
        super::id(VIRTIO_ID_BALLOON)
    }
    fn class(&self) -> u32 {
        // "Unclassified device", as other virtio balloons report.
        0x00_ff_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Balloon
    }
    fn queue_sizes(&self) -> &[u16] {
        self.queue_sizes
    }
    fn features(&self) -> u64 {
        self.features
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let State { target, actual, .. } = &*self.state;
        let mut config = [0; CONFIG_LEN];
        let words = [target, actual].map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        config.copy_from_slice(words.as_flattened());
        super::read_config_bytes(&config, offset, data);
    }
    fn write_config(&self, offset: u64, data: &[u8]) {
        // The only field that a driver may write (5.5.4).
        if let (ACTUAL, Ok(bytes)) = (offset, data.try_into()) {
            self.state.actual.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }
    fn connected(&self, notifier: ConfigNotifier) {
        // A device is put behind one transport.
        let _ = self.notifier.set(notifier);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let has = |bit: u32| activation.features & 1 << bit != 0;
        // A queue that belongs to a feature which was not agreed on has no number (5.5.2).
        let mut roles = vec![Role::Inflate, Role::Deflate];
        roles.extend(has(VIRTIO_BALLOON_F_STATS_VQ).then_some(Role::Statistics));
        roles.extend(has(VIRTIO_BALLOON_F_REPORTING).then_some(Role::Reporting));
        let needed = roles.len();
        let queues: Vec<(Role, DeviceQueue)> = roles
            .into_iter()
            .zip(activation.queues)
            .filter_map(|(role, queue)| Some((role, queue?)))
            .collect();
        if queues.len() < needed {
            return Err(ActivateError::QueueMissing { found: queues.len(), needed });
        }
        let handler = Handler { state: Arc::clone(&self.state), queues, held: None };
        Ok(WorkerSpec::only(needed, handler))
    }
    fn reset(&self) {
        self.state.actual.store(0, Ordering::Relaxed);
        self.state.statistics.forget();
    }
    /// Asks for the statistics of the next time, too.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        // A full counter is a question that has been asked already.
        let _ = rustix::io::write(&self.state.refresh, &1_u64.to_ne_bytes());
        let State { inflated, deflated, reported, ignored, .. } = &*self.state;
        let own = [
            ("inflated_bytes", inflated),
            ("deflated_bytes", deflated),
            ("reported_bytes", reported),
            ("ignored_requests", ignored),
        ];
        let mut counters: Vec<_> =
            own.into_iter().map(|(name, counter)| (name, counter.load(Ordering::Relaxed))).collect();
        counters.push(("actual_bytes", self.actual()));
        counters.extend(self.state.statistics.read());
        counters
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Inflate,
    Deflate,
    Statistics,
    Reporting,
}

const REFRESH: u64 = 0;

struct Handler {
    state: Arc<State>,
    queues: Vec<(Role, DeviceQueue)>,
    /// The buffer of the statistics queue, kept until the guest is asked for new ones (5.5.6.3).
    held: Option<u16>,
}

impl EventHandler for Handler {
    fn queue_event(&mut self, queue: usize) -> Result<(), QueueError> {
        let Self { state, queues, held } = self;
        let Some((role, queue)) = queues.get_mut(queue) else { return Ok(()) };
        while let Some(chain) = queue.pop()? {
            match role {
                Role::Inflate => state.inflate(&chain)?,
                Role::Deflate => state.deflate(&chain)?,
                Role::Reporting => state.take_reported(&chain),
                Role::Statistics => {
                    state.statistics.take(&mut chain.reader()?);
                    // One buffer is enough; a driver that gives another gets the earlier one back.
                    if let Some(earlier) = held.replace(chain.head()) {
                        queue.complete(earlier, 0)?;
                    }
                    continue;
                }
            }
            queue.complete(chain.head(), 0)?;
        }
        queue.notify()
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let refresh = self.state.refresh.as_fd();
        vec![Source { token: REFRESH, fd: refresh, events: EventSet::IN }]
    }

    fn source_event(&mut self, _token: u64, _ready: EventSet) -> Result<(), QueueError> {
        // Somebody else may have emptied it.
        let _ = rustix::io::read(&self.state.refresh, &mut [0_u8; 8]);
        let Some(head) = self.held.take() else { return Ok(()) };
        let statistics = self.queues.iter_mut().find(|(role, _)| *role == Role::Statistics);
        let Some((_, queue)) = statistics else { return Ok(()) };
        queue.complete(head, 0)?;
        queue.notify()
    }
}

impl State {
    fn inflate(&self, chain: &Chain) -> Result<(), QueueError> {
        each_run(chain, |gpa, len| {
            if self.reclaim(gpa, len) {
                self.inflated.fetch_add(len, Ordering::Relaxed);
            }
        })
    }

    fn deflate(&self, chain: &Chain) -> Result<(), QueueError> {
        // The pages come back when the guest touches them.
        each_run(chain, |_, len| {
            self.deflated.fetch_add(len, Ordering::Relaxed);
        })
    }

    fn take_reported(&self, chain: &Chain) {
        for (gpa, len) in chain.writable_ranges() {
            if self.reclaim(gpa, u64::from(len)) {
                self.reported.fetch_add(u64::from(len), Ordering::Relaxed);
            }
        }
    }

    fn reclaim(&self, gpa: u64, len: u64) -> bool {
        let result = self.reclaim.reclaim(gpa, len);
        if let Err(error) = &result {
            // The guest keeps the promise or not; the host just keeps the pages.
            self.ignored.fetch_add(1, Ordering::Relaxed);
            debug!("balloon: {len} bytes at {gpa:#x} stay with the guest: {error}");
        }
        result.is_ok()
    }
}

/// Calls `run` for each run of neighbouring pages among the page numbers of a buffer.
fn each_run(chain: &Chain, mut run: impl FnMut(u64, u64)) -> Result<(), QueueError> {
    let mut reader = chain.reader()?;
    let mut current: Option<(u64, u64)> = None;
    let mut bytes = vec![0; NUMBERS_AT_ONCE * 4];
    for _ in 0..PARTS_OF_A_REQUEST {
        let count = io::Read::read(&mut reader, &mut bytes).unwrap_or(0);
        let (numbers, _) = bytes.get(..count).unwrap_or_default().as_chunks::<4>();
        if numbers.is_empty() {
            break;
        }
        for &number in numbers {
            let gpa = u64::from(u32::from_le_bytes(number)) * PAGE;
            current = match current {
                Some((start, len)) if start + len == gpa => Some((start, len + PAGE)),
                // Linux gives pages up from the highest of a block to its lowest.
                Some((start, len)) if gpa + PAGE == start => Some((gpa, len + PAGE)),
                Some((start, len)) => {
                    run(start, len);
                    Some((gpa, PAGE))
                }
                None => Some((gpa, PAGE)),
            };
        }
    }
    if let Some((start, len)) = current {
        run(start, len);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
