//! Persistent memory (virtio 1.2, 5.19): a file of the host that the guest has in its address space.
//!
//! The memory itself is a slot of the VM; all that comes through the queue is the wish to have it on the disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;
use virtio_bindings::virtio_ids::VIRTIO_ID_PMEM;

use super::{
    ActivateError, Activation, Chain, DeviceQueue, EventHandler, QueueError, ThreadKind, VirtioDevice,
    WorkerSpec,
};
use crate::log_limit::LogLimit;

const QUEUE_SIZES: [u16; 1] = [64];

/// `VIRTIO_PMEM_REQ_TYPE_FLUSH` (virtio 1.2, 5.19.6).
const FLUSH: u32 = 0;
/// `VIRTIO_PMEM_RESP_TYPE_OK` and `VIRTIO_PMEM_RESP_TYPE_EIO` (5.19.7).
const OK: u32 = 0;
const EIO: u32 = 1;

/// What has the memory on the disk.
pub trait Persist: Send + Sync {
    /// Returns when everything that the guest has written before is on the disk.
    ///
    /// # Errors
    /// The host could not: what was written may be lost.
    fn persist(&self) -> io::Result<()>;
}

impl Persist for File {
    fn persist(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Memory that forgets: what the guest writes never reaches a file.
#[derive(Clone, Copy, Debug)]
pub struct Discarded;

impl Persist for Discarded {
    fn persist(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A virtio persistent memory device.
pub struct Pmem {
    start: u64,
    size: u64,
    shared: Arc<Shared>,
    /// Whatever keeps the memory in the guest's address space; dropped with the device.
    _slot: Box<dyn Send + Sync>,
}

struct Shared {
    file: Box<dyn Persist>,
    failures: LogLimit,
    flushes: AtomicU64,
    failed: AtomicU64,
}

impl Pmem {
    /// A device whose memory the guest finds at `start`, `size` bytes of it, as long as `slot` is there.
    pub fn new(start: u64, size: u64, file: Box<dyn Persist>, slot: Box<dyn Send + Sync>) -> Self {
        let (failures, flushes, failed) = Default::default();
        let shared = Arc::new(Shared { file, failures, flushes, failed });
        Self { start, size, shared, _slot: slot }
    }
}

impl VirtioDevice for Pmem {
    fn device_id(&self) -> u16 {
        super::id(VIRTIO_ID_PMEM)
    }
    fn class(&self) -> u32 {
        // "Memory controller, other".
        0x05_80_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Pmem
    }
    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }
    fn features(&self) -> u64 {
        0
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 16];
        let (start, size) = config.split_at_mut(8);
        start.copy_from_slice(&self.start.to_le_bytes());
        size.copy_from_slice(&self.size.to_le_bytes());
        super::read_config_bytes(&config, offset, data);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let [requests] = activation.all_queues()?;
        Ok(WorkerSpec::only(QUEUE_SIZES.len(), Handler { shared: Arc::clone(&self.shared), requests }))
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Shared { flushes, failed, .. } = self.shared.as_ref();
        [("flush_ops", flushes), ("failed_ops", failed)]
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .into()
    }
}

struct Handler {
    shared: Arc<Shared>,
    requests: DeviceQueue,
}

impl EventHandler for Handler {
    fn queue_event(&mut self, _queue: usize) -> Result<(), QueueError> {
        // One flush covers every request that was there before it began.
        let mut waiting = Vec::new();
        while let Some(chain) = self.requests.pop()? {
            waiting.push(chain);
        }
        let wants_flush = waiting.iter().map(wants_flush).collect::<Result<Vec<_>, _>>()?;
        let result = if wants_flush.contains(&Some(true)) { self.shared.flush() } else { OK };
        for (chain, wish) in waiting.iter().zip(wants_flush) {
            match wish {
                Some(wanted) => {
                    let answer = if wanted { result } else { EIO };
                    self.answer(chain, answer)?;
                }
                None => self.requests.reject(chain.head(), "a request for persistent memory has no type")?,
            }
        }
        self.requests.notify()
    }
}

/// Whether a request is for a flush, if it is for anything.
fn wants_flush(chain: &Chain) -> Result<Option<bool>, QueueError> {
    let mut kind = [0; 4];
    let read = chain.reader()?.read_exact(&mut kind);
    Ok(read.is_ok().then(|| u32::from_le_bytes(kind) == FLUSH))
}

impl Handler {
    fn answer(&mut self, chain: &Chain, answer: u32) -> Result<(), QueueError> {
        let bytes = answer.to_le_bytes();
        match chain.writer()?.write_all(&bytes) {
            Ok(()) => self.requests.complete(chain.head(), 4),
            Err(_) => self
                .requests
                .reject(chain.head(), "a request for persistent memory has no room for an answer"),
        }
    }
}

impl Shared {
    fn flush(&self) -> u32 {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        let Err(error) = self.file.persist() else { return OK };
        self.failed.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.failures.hit() {
            warn!(count, "persistent memory was not written to its file, the guest is told: {error}");
        }
        EIO
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::testing::{Buffer, Driver, Machine};

    #[derive(Clone, Default)]
    struct Disk {
        flushes: Arc<AtomicU64>,
        broken: Arc<AtomicBool>,
    }

    impl Persist for Disk {
        fn persist(&self) -> io::Result<()> {
            self.flushes.fetch_add(1, Ordering::SeqCst);
            if self.broken.load(Ordering::SeqCst) { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        }
    }

    fn guest(disk: &Disk) -> Driver {
        let device = Pmem::new(0x80_0000_0000, 0x20_0000, Box::new(disk.clone()), Box::new(()));
        Machine::plain().start(device, u64::MAX)
    }

    fn request(driver: &mut Driver, kind: u32) -> (u32, u32) {
        let (kind, room) = (driver.buffer(&kind.to_le_bytes()), driver.room(4));
        let len = driver.request(0, &[kind, room]);
        (len, u32::from_le_bytes(driver.content(room).try_into().unwrap()))
    }

    #[test]
    fn driver_learns_where_the_memory_is() {
        let driver = guest(&Disk::default());
        assert_eq!(driver.device_config(0, 8), 0x80_0000_0000);
        assert_eq!(driver.device_config(8, 8), 0x20_0000);
    }

    #[test]
    fn flush_is_answered_when_the_disk_has_everything_and_failure_is_told() {
        let disk = Disk::default();
        let mut driver = guest(&disk);
        assert_eq!(request(&mut driver, FLUSH), (4, OK));
        disk.broken.store(true, Ordering::SeqCst);
        assert_eq!(request(&mut driver, FLUSH), (4, EIO));
        disk.broken.store(false, Ordering::SeqCst);
        assert_eq!(request(&mut driver, FLUSH), (4, OK));
        assert_eq!(disk.flushes.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn what_is_no_flush_is_refused_and_flushes_nothing() {
        let disk = Disk::default();
        let mut driver = guest(&disk);
        for kind in [1, 2, u32::MAX] {
            assert_eq!(request(&mut driver, kind), (4, EIO));
        }
        let (short, room) = (driver.buffer(&[0; 3]), driver.room(4));
        assert_eq!(driver.request(0, &[short, room]), 0, "no type");
        let kind = driver.buffer(&FLUSH.to_le_bytes());
        let small = Buffer { len: 3, ..room };
        assert_eq!(disk.flushes.load(Ordering::SeqCst), 0);
        assert_eq!(driver.request(0, &[kind, small]), 0, "no room for an answer");
        assert_eq!(request(&mut driver, FLUSH), (4, OK));
    }

    #[test]
    fn requests_that_wait_share_a_flush() {
        let disk = Disk::default();
        let mut driver = guest(&disk);
        for _ in 0..8 {
            let (kind, room) = (driver.buffer(&FLUSH.to_le_bytes()), driver.room(4));
            driver.offer(0, &[kind, room]);
        }
        driver.ring(0);
        for _ in 0..8 {
            driver.wait_used(0);
        }
        assert!((1..8).contains(&disk.flushes.load(Ordering::SeqCst)));
    }
}
