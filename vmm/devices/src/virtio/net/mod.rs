//! Network device (virtio 1.2, 5.1).

pub(super) mod control;
mod pair;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_UFO,
    VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_UFO,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
    VIRTIO_NET_S_LINK_UP,
};

use self::control::Control;
use self::pair::{Pair, PairConfig};
use super::{ActivateError, Activation, ThreadKind, VirtioDevice, WorkerSpec};
use crate::rate_limit::{LimitConfig, Limits, RateLimiter};

/// `struct virtio_net_hdr_v1` before each frame.
const HEADER_LEN: usize = 12;
/// Size of the control queue: a driver sends one command at a time.
const CONTROL_QUEUE_SIZE: u16 = 64;
/// Most queue pairs (virtio 1.2, 5.1.4, allows more): each costs a thread and two of the transport's doorbells.
pub const MAX_PAIRS: usize = 64;

/// The features by which the guest takes over work from the host, as [`NetBackend::set_offloads`] sees them.
const GUEST_OFFLOADS: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_ECN
    | 1 << VIRTIO_NET_F_GUEST_UFO;

/// The network behind the interface.
pub trait NetBackend: Debug + Send + Sync {
    /// A descriptor for each queue pair. A read or write is one frame behind `struct virtio_net_hdr_v1`, and never
    /// blocks.
    fn queue(&self, pair: usize) -> Option<BorrowedFd<'_>>;

    /// What the guest takes over from now on.
    ///
    /// # Errors
    /// The host's.
    fn set_offloads(&self, offloads: GuestOffloads) -> io::Result<()>;

    /// Takes the first `count` pairs into use and the others out of it.
    ///
    /// # Errors
    /// The host's.
    fn use_pairs(&self, count: usize) -> io::Result<()>;
}

/// What the guest takes over from the host: frames may come without checksum, or larger than the link allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one feature bit")]
pub struct GuestOffloads {
    /// Checksums.
    pub checksum: bool,
    /// TCP over IPv4.
    pub tso4: bool,
    /// TCP over IPv6.
    pub tso6: bool,
    /// TCP with explicit congestion notification.
    pub ecn: bool,
    /// UDP.
    pub ufo: bool,
}

impl GuestOffloads {
    fn from_features(features: u64) -> Self {
        let has = |bit: u32| features & 1 << bit != 0;
        Self {
            checksum: has(VIRTIO_NET_F_GUEST_CSUM),
            tso4: has(VIRTIO_NET_F_GUEST_TSO4),
            tso6: has(VIRTIO_NET_F_GUEST_TSO6),
            ecn: has(VIRTIO_NET_F_GUEST_ECN),
            ufo: has(VIRTIO_NET_F_GUEST_UFO),
        }
    }
}

/// What an interface is.
#[derive(Clone, Copy, Debug)]
pub struct NetConfig {
    /// Hardware address of the guest.
    pub mac: [u8; 6],
    /// Largest packet in bytes, if the guest is to be told.
    pub mtu: Option<u16>,
    /// Queue pairs, from 1 to [`MAX_PAIRS`].
    pub pairs: usize,
    /// Size of each queue.
    pub queue_size: u16,
    /// Whether either side may leave checksums to the other.
    pub checksum: bool,
    /// Whether either side may leave TCP segmentation to the other; needs `checksum`.
    pub tso: bool,
    /// Whether either side may leave UDP fragmentation to the other; needs `checksum`.
    pub ufo: bool,
    /// Limits, for each direction.
    pub limits: LimitConfig,
}

/// A virtio network interface.
pub struct Net {
    backend: Arc<dyn NetBackend>,
    pairs: usize,
    queue_sizes: Vec<u16>,
    features: u64,
    config: [u8; 12],
    receive_limits: Limits,
    transmit_limits: Limits,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    rx_bytes: AtomicU64,
    rx_frames: AtomicU64,
    rx_dropped: AtomicU64,
    tx_bytes: AtomicU64,
    tx_frames: AtomicU64,
    tx_dropped: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, value: usize) {
        counter.fetch_add(value as u64, Ordering::Relaxed);
    }
}

impl Net {
    /// An interface on `backend`, which has at least `config.pairs` queues.
    pub fn new(backend: Arc<dyn NetBackend>, config: &NetConfig) -> Self {
        let pairs = config.pairs.clamp(1, MAX_PAIRS);
        let mut queue_sizes = vec![config.queue_size; 2 * pairs];
        queue_sizes.push(CONTROL_QUEUE_SIZE);

        Self {
            backend,
            pairs,
            queue_sizes,
            features: features(config),
            config: config_space(config, pairs),
            receive_limits: Limits::new(&config.limits),
            transmit_limits: Limits::new(&config.limits),
            counters: Arc::default(),
        }
    }

    fn pair(&self, activation: &mut Activation, index: usize) -> Result<Option<WorkerSpec>, ActivateError> {
        let queues = [2 * index, 2 * index + 1];
        let [receive, transmit] = queues.map(|queue| activation.queues.get_mut(queue).and_then(Option::take));
        let (Some(receive), Some(transmit)) = (receive, transmit) else { return Ok(None) };
        let pair = Pair::new(PairConfig {
            backend: Arc::clone(&self.backend),
            index,
            mergeable: activation.features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0,
            receive,
            transmit,
            receive_limiter: RateLimiter::new(self.receive_limits.clone())?,
            transmit_limiter: RateLimiter::new(self.transmit_limits.clone())?,
            counters: Arc::clone(&self.counters),
        });
        Ok(Some(WorkerSpec {
            suffix: format!("_qp{index}"),
            queues: queues.into(),
            host_cpus: Vec::new(),
            handler: Box::new(pair),
        }))
    }
}

/// The features of an interface that is all ours.
pub(super) fn features(config: &NetConfig) -> u64 {
    let bit = |on: bool, bits: &[u32]| bits.iter().filter(|_| on).fold(0, |all, bit| all | 1 << bit);
    bit(
        true,
        &[
            VIRTIO_NET_F_MAC,
            VIRTIO_NET_F_STATUS,
            VIRTIO_NET_F_MRG_RXBUF,
            VIRTIO_NET_F_CTRL_VQ,
            VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
        ],
    ) | bit(config.mtu.is_some(), &[VIRTIO_NET_F_MTU])
        | bit(config.pairs > 1, &[VIRTIO_NET_F_MQ])
        | bit(config.checksum, &[VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM])
        | bit(
            config.checksum && config.tso,
            &[
                VIRTIO_NET_F_HOST_TSO4,
                VIRTIO_NET_F_HOST_TSO6,
                VIRTIO_NET_F_HOST_ECN,
                VIRTIO_NET_F_GUEST_TSO4,
                VIRTIO_NET_F_GUEST_TSO6,
                VIRTIO_NET_F_GUEST_ECN,
            ],
        )
        | bit(config.checksum && config.ufo, &[VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_GUEST_UFO])
}

/// `struct virtio_net_config` up to `mtu`.
pub(super) fn config_space(config: &NetConfig, pairs: usize) -> [u8; 12] {
    let [a, b, c, d, e, f] = config.mac;
    let [status, ..] = VIRTIO_NET_S_LINK_UP.to_le_bytes();
    let [pairs, ..] = pairs.to_le_bytes();
    let [mtu_low, mtu_high] = config.mtu.unwrap_or_default().to_le_bytes();
    [a, b, c, d, e, f, status, 0, pairs, 0, mtu_low, mtu_high]
}

impl VirtioDevice for Net {
    fn device_id(&self) -> u16 {
        super::id(VIRTIO_ID_NET)
    }
    fn class(&self) -> u32 {
        0x02_00_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Net
    }
    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }
    fn features(&self) -> u64 {
        self.features
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        super::read_config_bytes(&self.config, offset, data);
    }
    fn activate(&self, mut activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let features = activation.features;
        let multiqueue = features & 1 << VIRTIO_NET_F_MQ != 0;
        let offered_pairs = if multiqueue { self.pairs } else { 1 };
        self.backend.set_offloads(GuestOffloads::from_features(features))?;
        // A driver starts with one pair and asks for more (5.1.6.5.5).
        self.backend.use_pairs(1)?;
        let mut workers = Vec::new();
        for index in 0..offered_pairs {
            workers.extend(self.pair(&mut activation, index)?);
        }
        if workers.is_empty() {
            return Err(ActivateError::QueueMissing { found: 0, needed: 2 });
        }
        // The control queue follows the pairs that were negotiated (5.1.2).
        let control = 2 * offered_pairs;
        let queue = activation.queues.get_mut(control).and_then(Option::take);
        if let Some(queue) = queue.filter(|_| features & 1 << VIRTIO_NET_F_CTRL_VQ != 0) {
            let pairs = if multiqueue { workers.len() } else { 1 };
            let handler = Control::new(Arc::clone(&self.backend), queue, features, pairs);
            workers.push(WorkerSpec {
                suffix: "_ctrl".into(),
                queues: vec![control],
                host_cpus: Vec::new(),
                handler: Box::new(handler),
            });
        }
        Ok(workers)
    }
    fn reset(&self) {
        let result =
            self.backend.set_offloads(GuestOffloads::default()).and_then(|()| self.backend.use_pairs(1));
        if let Err(error) = result {
            tracing::warn!("a network interface keeps the state of its last driver: {error}");
        }
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters { rx_bytes, rx_frames, rx_dropped, tx_bytes, tx_frames, tx_dropped } = &*self.counters;
        [
            ("rx_bytes", rx_bytes),
            ("rx_frames", rx_frames),
            ("rx_dropped", rx_dropped),
            ("tx_bytes", tx_bytes),
            ("tx_frames", tx_frames),
            ("tx_dropped", tx_dropped),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .into()
    }
}
