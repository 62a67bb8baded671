//! Block device (virtio 1.2, 5.2).

mod backend;
mod request;

use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

pub use self::backend::{BlockBackend, RawFile, RawFileError};
use self::request::Disk;
use super::{
    ActivateError, Activation, DeviceQueue, EventHandler, QueueError, ThreadKind, VirtioDevice, WorkerSpec,
};
use crate::log_limit::LogLimit;

const QUEUE_SIZES: [u16; 1] = [256];
const SECTOR: u64 = 512;
/// Length of the answer to GET_ID.
const SERIAL_LEN: usize = 20;
/// Most sectors of one discard or write-zeroes request (16 MiB). Without it one request could keep the device busy for
/// the length of the whole disk, deaf to the guest's reset meanwhile.
const MAX_RANGE_SECTORS: u32 = 32 * 1024;
/// Ranges in one discard or write-zeroes request.
const MAX_RANGES: u32 = 1;

/// A virtio block device.
pub struct Block {
    disk: Arc<Disk>,
    features: u64,
    config: [u8; CONFIG_LEN],
}

impl Block {
    /// A disk on `backend`. The guest sees the first 20 bytes of `serial` as the disk's id.
    pub fn new(backend: Box<dyn BlockBackend>, serial: &str) -> Self {
        let mut features = 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE | 1 << VIRTIO_BLK_F_FLUSH;
        features |= if backend.read_only() {
            1 << VIRTIO_BLK_F_RO
        } else {
            1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES
        };
        let mut id = [0; SERIAL_LEN];
        for (byte, &value) in id.iter_mut().zip(serial.as_bytes()) {
            *byte = value;
        }
        let config = config_space(backend.size() / SECTOR);
        Self { disk: Arc::new(Disk { backend, serial: id, failures: LogLimit::default() }), features, config }
    }
}

/// `struct virtio_blk_config` up to `write_zeroes_may_unmap` and its padding.
const CONFIG_LEN: usize = 60;

fn config_space(sectors: u64) -> [u8; CONFIG_LEN] {
    let mut config = [0; CONFIG_LEN];
    let mut put = |at: usize, value: &[u8]| {
        for (byte, &value) in config.iter_mut().skip(at).zip(value) {
            *byte = value;
        }
    };
    // Two descriptors of a chain hold header and status.
    let segments = QUEUE_SIZES.map(|size| u32::from(size) - 2);
    put(0, &sectors.to_le_bytes());
    put(12, segments.map(u32::to_le_bytes).as_flattened());
    put(20, &[0, 2, 0, 0]); // blk_size 512
    put(36, &MAX_RANGE_SECTORS.to_le_bytes()); // discard: sectors, ranges, alignment
    put(40, &MAX_RANGES.to_le_bytes());
    put(44, &8_u32.to_le_bytes());
    put(48, &MAX_RANGE_SECTORS.to_le_bytes()); // write zeroes: sectors, ranges, may unmap
    put(52, &MAX_RANGES.to_le_bytes());
    put(56, &[1]);
    config
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
        &QUEUE_SIZES
    }
    fn features(&self) -> u64 {
        self.features
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        super::read_config_bytes(&self.config, offset, data);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        // A driver that cannot flush relies on every write being durable when it completes (5.2.6.2).
        let write_through = activation.features & 1 << VIRTIO_BLK_F_FLUSH == 0;
        let [requests] = activation.all_queues()?;
        let handler = Handler { disk: self.disk.clone(), requests, write_through };
        Ok(WorkerSpec::only(QUEUE_SIZES.len(), handler))
    }
}

struct Handler {
    disk: Arc<Disk>,
    requests: DeviceQueue,
    write_through: bool,
}

impl EventHandler for Handler {
    fn queue_event(&mut self, _queue: usize) -> Result<(), QueueError> {
        while let Some(chain) = self.requests.pop()? {
            match self.disk.serve(&mut chain.reader()?, chain.writer()?, self.write_through) {
                Ok(written) => self.requests.complete(chain.head(), written)?,
                Err(malformed) => self.requests.reject(chain.head(), &malformed.to_string())?,
            }
            self.requests.notify()?;
        }
        Ok(())
    }
}
