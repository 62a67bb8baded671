//! Block device (virtio 1.2, 5.2).

mod asynchronous;
mod backend;
mod request;
#[cfg(test)]
mod testing;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::{info, warn};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use vmm_sys_util::epoll::EventSet;

use self::asynchronous::{Home, InFlight};
pub use self::backend::{
    BlockBackend, ImageError, ImageFormat, ImageOptions, PlainFile, RawFile, RawFileError, open_image,
};
use self::request::Disk;
use super::{
    ActivateError, Activation, Chain, Chained, ConfigNotifier, DeviceQueue, EventHandler, QueueError, Source,
    ThreadKind, VirtioDevice, WorkerSpec,
};
use crate::log_limit::LogLimit;
use crate::rate_limit::{LimitConfig, Limits, RateLimiter};

const SECTOR: u64 = 512;
/// Length of the answer to GET_ID.
const SERIAL_LEN: usize = 20;
/// Most sectors of one discard or write-zeroes request (16 MiB). Without it one request could keep the device busy for
/// the length of the whole disk, deaf to the guest's reset meanwhile.
const MAX_RANGE_SECTORS: u32 = 32 * 1024;
/// Ranges in one discard or write-zeroes request.
const MAX_RANGES: u32 = 1;
/// Most queues: each costs a thread.
pub const MAX_QUEUES: usize = 128;

/// How a disk is shown to the guest.
#[derive(Clone, Debug)]
pub struct BlockOptions {
    /// The disk's id, of which the guest sees the first 20 bytes.
    pub serial: String,
    /// Size of each queue.
    pub queue_size: u16,
    /// Whether what the guest discards is given back to the host.
    pub sparse: bool,
    /// Limits, which several disks may share.
    pub limits: Limits,
    /// One queue for each element: the host's processors on which its thread may run, or none for any.
    pub queues: Vec<Vec<usize>>,
    /// Whether several requests of a queue are carried out at once, by io_uring, where the image is a plain file and
    /// the kernel allows it.
    pub io_uring: bool,
}

impl Default for BlockOptions {
    fn default() -> Self {
        let limits = Limits::new(&LimitConfig::default());
        let queues = vec![Vec::new()];
        Self { serial: String::new(), queue_size: 256, sparse: true, limits, queues, io_uring: false }
    }
}

/// A virtio block device.
pub struct Block {
    disk: Arc<Disk>,
    features: u64,
    queue_sizes: Vec<u16>,
    affinity: Vec<Vec<usize>>,
    limits: Limits,
    notifier: OnceLock<ConfigNotifier>,
    /// The ring of each queue; none where I/O is synchronous.
    rings: Vec<Home>,
}

impl Block {
    /// A disk on `backend` with one queue. The guest sees the first 20 bytes of `serial` as the disk's id.
    pub fn new(backend: Box<dyn BlockBackend>, serial: &str) -> Self {
        Self::with_options(backend, BlockOptions { serial: serial.into(), ..BlockOptions::default() })
    }

    /// A disk on `backend`.
    pub fn with_options(backend: Box<dyn BlockBackend>, options: BlockOptions) -> Self {
        let BlockOptions { serial, queue_size, sparse, limits, queues: mut affinity, io_uring } = options;
        affinity.truncate(MAX_QUEUES);
        let queue_sizes = vec![queue_size; affinity.len().max(1)];
        let mut features = 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_FLUSH
            | 1 << VIRTIO_BLK_F_CONFIG_WCE;
        if queue_sizes.len() > 1 {
            features |= 1 << VIRTIO_BLK_F_MQ;
        }
        if backend.read_only() {
            features |= 1 << VIRTIO_BLK_F_RO;
        } else {
            features |= 1 << VIRTIO_BLK_F_WRITE_ZEROES;
            features |= if sparse { 1 << VIRTIO_BLK_F_DISCARD } else { 0 };
        }
        let mut id = [0; SERIAL_LEN];
        for (byte, &value) in id.iter_mut().zip(serial.as_bytes()) {
            *byte = value;
        }
        let rings = if io_uring { asynchronous::rings(&*backend, &queue_sizes) } else { Ok(Vec::new()) };
        let rings = rings.unwrap_or_else(|error| {
            info!("disk I/O is synchronous: {}", Chained(&error));
            Vec::new()
        });
        let disk = Disk {
            backend,
            serial: id,
            sparse,
            failures: LogLimit::default(),
            counters: Counters::default(),
            write_back: AtomicBool::new(true),
        };
        let notifier = OnceLock::new();
        Self { disk: Arc::new(disk), features, queue_sizes, affinity, limits, notifier, rings }
    }

    /// Whether several requests of a queue are carried out at once.
    pub fn is_asynchronous(&self) -> bool {
        !self.rings.is_empty()
    }

    /// Makes the disk larger and tells the guest.
    ///
    /// # Errors
    /// The host's, or an error that says why the size cannot be had.
    pub fn grow(&self, size: u64) -> io::Result<()> {
        if !size.is_multiple_of(SECTOR) {
            let text = format!("{size} bytes: expected a multiple of {SECTOR}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.disk.backend.grow(size)?;
        if let Some(notifier) = self.notifier.get() {
            notifier.changed();
        }
        Ok(())
    }

    fn config_space(&self) -> [u8; CONFIG_LEN] {
        let mut config = [0; CONFIG_LEN];
        let mut put = |at: usize, value: &[u8]| {
            for (byte, &value) in config.iter_mut().skip(at).zip(value) {
                *byte = value;
            }
        };
        put(0, &(self.disk.backend.size() / SECTOR).to_le_bytes());
        // Two descriptors of a chain hold header and status.
        let size = self.queue_sizes.first().copied().unwrap_or_default();
        put(12, &u32::from(size.saturating_sub(2)).to_le_bytes());
        put(20, &[0, 2, 0, 0]); // blk_size 512
        put(WRITEBACK, &[u8::from(self.disk.write_back.load(Ordering::Relaxed))]);
        put(34, &u16::try_from(self.queue_sizes.len()).unwrap_or(u16::MAX).to_le_bytes());
        put(36, &MAX_RANGE_SECTORS.to_le_bytes()); // discard: sectors, ranges, alignment
        put(40, &MAX_RANGES.to_le_bytes());
        put(44, &8_u32.to_le_bytes());
        put(48, &MAX_RANGE_SECTORS.to_le_bytes()); // write zeroes: sectors, ranges, may unmap
        put(52, &MAX_RANGES.to_le_bytes());
        put(56, &[u8::from(self.disk.sparse)]);
        config
    }
}

/// `struct virtio_blk_config` up to `write_zeroes_may_unmap` and its padding.
const CONFIG_LEN: usize = 60;
/// Offset of `writeback` in it.
const WRITEBACK: usize = 32;

#[derive(Default)]
struct Counters {
    read_bytes: AtomicU64,
    read_ops: AtomicU64,
    write_bytes: AtomicU64,
    write_ops: AtomicU64,
    flush_ops: AtomicU64,
    failed_ops: AtomicU64,
}

impl VirtioDevice for Block {
    fn device_id(&self) -> u16 {
        super::id(VIRTIO_ID_BLOCK)
    }
    fn class(&self) -> u32 {
        0x01_80_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Block
    }
    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }
    fn features(&self) -> u64 {
        self.features
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        super::read_config_bytes(&self.config_space(), offset, data);
    }
    fn write_config(&self, offset: u64, data: &[u8]) {
        // The only field that a driver may write (5.2.5.2).
        if let (Ok(WRITEBACK), &[value @ (0 | 1)]) = (usize::try_from(offset), data) {
            self.disk.write_back.store(value == 1, Ordering::Relaxed);
        }
    }
    fn connected(&self, notifier: ConfigNotifier) {
        // A device is put behind one transport.
        let _ = self.notifier.set(notifier);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let has = |bit: u32| activation.features & 1 << bit != 0;
        // A driver that cannot flush relies on every write being durable when it completes (5.2.6.2).
        let can_flush = has(VIRTIO_BLK_F_FLUSH);
        let several = self.queue_sizes.len() > 1;
        let mut workers = Vec::new();
        for (index, queue) in activation.queues.into_iter().enumerate() {
            let Some(queue) = queue else { continue };
            let handler = Handler {
                disk: Arc::clone(&self.disk),
                requests: queue,
                can_flush,
                limiter: RateLimiter::new(self.limits.clone())?,
                in_flight: self.rings.get(index).and_then(InFlight::new),
            };
            workers.push(WorkerSpec {
                suffix: if several { format!("_q{index}") } else { String::new() },
                queues: vec![index],
                host_cpus: self.affinity.get(index).cloned().unwrap_or_default(),
                handler: Box::new(handler),
            });
        }
        if workers.is_empty() {
            return Err(ActivateError::QueueMissing { found: 0, needed: 1 });
        }
        Ok(workers)
    }
    fn reset(&self) {
        self.disk.write_back.store(true, Ordering::Relaxed);
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters { read_bytes, read_ops, write_bytes, write_ops, flush_ops, failed_ops } =
            &self.disk.counters;
        [
            ("read_bytes", read_bytes),
            ("read_ops", read_ops),
            ("write_bytes", write_bytes),
            ("write_ops", write_ops),
            ("flush_ops", flush_ops),
            ("failed_ops", failed_ops),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .into()
    }
}

const LIMIT: u64 = 0;
const RING: u64 = 1;

struct Handler {
    disk: Arc<Disk>,
    requests: DeviceQueue,
    can_flush: bool,
    limiter: RateLimiter,
    in_flight: Option<InFlight>,
}

impl Handler {
    fn serve(&mut self) -> Result<(), QueueError> {
        if self.limiter.timer().is_some() {
            return Ok(());
        }
        // Without room the rest waits in the queue, until something ends.
        while self.in_flight.as_ref().is_none_or(InFlight::has_room)
            && let Some(chain) = self.requests.pop()?
        {
            if !self.admit(&chain)? {
                self.requests.undo_pop();
                break;
            }
            let write_through = !self.can_flush || !self.disk.write_back.load(Ordering::Relaxed);
            if let Some(in_flight) = &mut self.in_flight {
                if in_flight.take(&self.disk, &chain, write_through)? {
                    continue;
                }
                in_flight.submit()?;
            }
            match self.disk.serve(&mut chain.reader()?, chain.writer()?, write_through) {
                Ok(written) => self.requests.complete(chain.head(), written)?,
                Err(malformed) => self.requests.reject(chain.head(), &malformed.to_string())?,
            }
            self.requests.notify()?;
        }
        self.in_flight.as_mut().map_or(Ok(()), InFlight::submit)
    }

    /// Whether the limits let the request go now, by the bytes of its data in either direction.
    fn admit(&mut self, chain: &Chain) -> Result<bool, QueueError> {
        let readable = chain.reader()?.available_bytes().saturating_sub(request::HEADER_LEN);
        let writable = chain.writer()?.available_bytes().saturating_sub(1);
        Ok(self.limiter.admit((readable + writable) as u64).unwrap_or_else(|error| {
            if let Some(count) = self.disk.failures.hit() {
                warn!(count, "disk: rate limit not enforced: {error}");
            }
            true
        }))
    }
}

impl EventHandler for Handler {
    fn queue_event(&mut self, _queue: usize) -> Result<(), QueueError> {
        self.serve()
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let source = |token, fd| Source { token, fd, events: EventSet::IN };
        let timer = self.limiter.timer().map(|fd| source(LIMIT, fd));
        let ring = self.in_flight.as_ref().and_then(InFlight::fd).map(|fd| source(RING, fd));
        timer.into_iter().chain(ring).collect()
    }

    fn source_event(&mut self, token: u64, _ready: EventSet) -> Result<(), QueueError> {
        match (token, &mut self.in_flight) {
            (RING, Some(in_flight)) => in_flight.complete(&self.disk, &mut self.requests)?,
            _ => self.limiter.expired(),
        }
        self.serve()
    }

    fn pause(&mut self) -> Result<(), QueueError> {
        let Some(in_flight) = &mut self.in_flight else { return Ok(()) };
        in_flight.drain(&self.disk, &mut self.requests)
    }

    fn resume(&mut self) -> Result<(), QueueError> {
        // What was waiting for room is not announced again.
        self.serve()
    }
}
