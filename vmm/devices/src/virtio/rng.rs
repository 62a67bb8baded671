//! Entropy device (virtio 1.2, 5.4).

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use tracing::warn;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

use super::{
    ActivateError, Activation, Chain, DeviceQueue, EventHandler, QueueError, ThreadKind, VirtioDevice,
    WorkerSpec,
};
use crate::log_limit::LogLimit;

const QUEUE_SIZES: [u16; 1] = [64];
/// Most bytes per request. Without it one request could make the device produce 4 GiB of random numbers, deaf to the
/// guest's reset meanwhile. A driver takes a short answer as it comes.
const MAX_REQUEST: usize = 64 * 1024;

/// A virtio entropy device.
pub struct Rng {
    source: Arc<File>,
}

impl Rng {
    /// A device that hands out what it reads from `source`, for example `/dev/urandom`.
    pub fn new(source: File) -> Self {
        Self { source: Arc::new(source) }
    }
}

impl VirtioDevice for Rng {
    fn device_id(&self) -> u16 {
        super::id(VIRTIO_ID_RNG)
    }
    fn class(&self) -> u32 {
        // "Unclassified device": what other virtio entropy devices report as well.
        0x00_ff_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Rng
    }
    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }
    fn features(&self) -> u64 {
        0
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let [requests] = activation.all_queues()?;
        let handler = Handler { source: self.source.clone(), requests, failures: LogLimit::default() };
        Ok(WorkerSpec::only(QUEUE_SIZES.len(), handler))
    }
}

struct Handler {
    source: Arc<File>,
    requests: DeviceQueue,
    failures: LogLimit,
}

impl EventHandler for Handler {
    fn queue_event(&mut self, _queue: usize) -> Result<(), QueueError> {
        while let Some(chain) = self.requests.pop()? {
            let written = self.serve(&chain)?;
            self.requests.complete(chain.head(), written)?;
        }
        self.requests.notify()
    }
}

impl Handler {
    fn serve(&self, chain: &Chain) -> Result<u32, QueueError> {
        let mut writer = chain.writer()?;
        let mut bytes = vec![0; writer.available_bytes().min(MAX_REQUEST)];
        let result = read_full(&self.source, &mut bytes).and_then(|()| writer.write_all(&bytes));
        if let Err(error) = result
            && let Some(count) = self.failures.hit()
        {
            warn!(count, "no entropy for the guest: {error}");
        }
        Ok(u32::try_from(writer.bytes_written()).unwrap_or(u32::MAX))
    }
}

fn read_full(mut source: &File, bytes: &mut [u8]) -> io::Result<()> {
    source.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::testing::Machine;

    #[test]
    fn guest_gets_what_the_source_gives() {
        let mut source = tempfile::NamedTempFile::new().unwrap();
        let entropy: Vec<u8> = (0..200).collect();
        source.write_all(&entropy).unwrap();
        let machine = Machine::plain();
        let mut driver = machine.start(Rng::new(source.reopen().unwrap()), 0);
        for expected in entropy.chunks(100) {
            let room = driver.room(100);
            assert_eq!(driver.request(0, &[room]), 100);
            assert_eq!(driver.content(room), expected);
        }
        // The source is used up: an empty answer, not a stale one.
        let room = driver.room(100);
        assert_eq!(driver.request(0, &[room]), 0);
        assert_eq!(driver.content(room), [0xee; 100]);
    }

    #[test]
    fn large_request_gets_a_bounded_answer() {
        let machine = Machine::plain();
        let mut driver = machine.start(Rng::new(File::open("/dev/zero").unwrap()), 0);
        let room = driver.room(MAX_REQUEST + 1);
        assert_eq!(driver.request(0, &[room]) as usize, MAX_REQUEST);
    }

    #[test]
    fn request_without_room_is_returned_empty() {
        let machine = Machine::plain();
        let mut driver = machine.start(Rng::new(File::open("/dev/zero").unwrap()), 0);
        let given = driver.buffer(&[1; 8]);
        assert_eq!(driver.request(0, &[given]), 0);
    }
}
