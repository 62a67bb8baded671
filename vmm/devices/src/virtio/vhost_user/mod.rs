//! Devices that a server in another process has, over vhost-user: file systems, disks and network interfaces.
//!
//! The server maps guest memory and serves the rings itself: the guest's doorbells are its doorbells, and what it
//! signals becomes an interrupt here. Servers are trusted with the guest's memory, so a Realm cannot have them.

mod guard;
mod rings;
mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_GEOMETRY, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::{VIRTIO_ID_BLOCK, VIRTIO_ID_FS, VIRTIO_ID_NET};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ,
    VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::rings::{Rings, ServedQueue};
pub use self::server::{Server, ServerError};
use super::net::control::Control;
use super::net::{self, GuestOffloads, NetBackend, NetConfig};
use super::{ActivateError, Activation, ThreadKind, VirtioDevice, WorkerSpec};

/// Longest tag of a file system (virtio 1.2, 5.11.4).
pub const TAG_LIMIT: usize = 36;
/// Length of `struct virtio_blk_config` up to its write-zeroes fields (virtio 1.2, 5.2.4).
const BLOCK_CONFIG_LEN: u32 = 60;
/// Where it says how many queues there are.
const BLOCK_CONFIG_QUEUES: usize = 34;
/// Size of the control queue of an interface: a driver sends one command at a time.
const CONTROL_QUEUE_SIZE: u16 = 64;

/// Features of a disk that are the server's.
const BLOCK_FEATURES: u64 = 1 << VIRTIO_BLK_F_SIZE_MAX
    | 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_GEOMETRY
    | 1 << VIRTIO_BLK_F_RO
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_TOPOLOGY
    | 1 << VIRTIO_BLK_F_MQ
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// Features of an interface that are ours: what the guest reads in the configuration space, and the control queue.
const OWN_NET_FEATURES: u64 = 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_STATUS
    | 1 << VIRTIO_NET_F_MTU
    | 1 << VIRTIO_NET_F_MQ
    | 1 << VIRTIO_NET_F_CTRL_VQ;

/// What a server has.
#[derive(Clone, Debug)]
pub enum Service {
    /// A directory (virtio 1.2, 5.11).
    Fs {
        /// Name by which the guest mounts it, at most [`TAG_LIMIT`] bytes.
        tag: String,
        /// Request queues; one for urgent requests comes first.
        queues: u16,
        /// Size of each queue.
        queue_size: u16,
    },
    /// A disk (virtio 1.2, 5.2).
    Block {
        /// Queues.
        queues: u16,
        /// Size of each queue.
        queue_size: u16,
    },
    /// A network interface (virtio 1.2, 5.1). Limits do not apply: the server has the packets.
    Net(NetConfig),
}

impl Service {
    /// Queues that the server has.
    fn served_queues(&self) -> usize {
        match self {
            Self::Fs { queues, .. } => usize::from(*queues) + 1,
            Self::Block { queues, .. } => usize::from(*queues),
            Self::Net(config) => 2 * config.pairs,
        }
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let size = match self {
            Self::Fs { queue_size, .. } | Self::Block { queue_size, .. } => *queue_size,
            Self::Net(config) => config.queue_size,
        };
        let mut sizes = vec![size; self.served_queues()];
        if self.own_features() & 1 << VIRTIO_NET_F_CTRL_VQ != 0 {
            sizes.push(CONTROL_QUEUE_SIZE);
        }
        sizes
    }

    /// Features that are offered whatever the server says.
    fn own_features(&self) -> u64 {
        match self {
            Self::Net(config) => {
                let control = if config.pairs > 1 { 0 } else { 1 << VIRTIO_NET_F_CTRL_VQ };
                net::features(config) & OWN_NET_FEATURES & !control
            }
            Self::Fs { .. } | Self::Block { .. } => 0,
        }
    }

    /// Features that are offered if the server has them.
    fn server_features(&self) -> u64 {
        match self {
            Self::Fs { .. } => 0,
            Self::Block { .. } => BLOCK_FEATURES,
            Self::Net(config) => {
                net::features(config) & !OWN_NET_FEATURES & !(1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
            }
        }
    }

    /// Bytes of the configuration space that the server tells; 0 where all of it is ours.
    fn server_config_len(&self) -> u32 {
        if matches!(self, Self::Block { .. }) { BLOCK_CONFIG_LEN } else { 0 }
    }

    /// The configuration space, made of what the server told.
    fn config(&self, mut told: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Fs { tag, queues, .. } => {
                let mut config = tag.as_bytes().to_vec();
                config.resize(TAG_LIMIT, 0);
                config.extend_from_slice(&u32::from(*queues).to_le_bytes());
                config
            }
            Self::Block { queues, .. } => {
                for (byte, value) in told.iter_mut().skip(BLOCK_CONFIG_QUEUES).zip(queues.to_le_bytes()) {
                    *byte = value;
                }
                told
            }
            Self::Net(config) => net::config_space(config, config.pairs).into(),
        }
    }
}

/// A virtio device that a [`Server`] has, for one boot of the guest.
pub struct VhostUser {
    server: Arc<Server>,
    memory: Arc<GuestMemoryMmap>,
    queue_sizes: Vec<u16>,
}

impl VhostUser {
    /// The device of `server`, which gets to see all of `memory`. Only one device may be on a server.
    pub fn new(server: Arc<Server>, memory: Arc<GuestMemoryMmap>) -> Self {
        let queue_sizes = server.service().queue_sizes();
        Self { server, memory, queue_sizes }
    }

    /// The control queue of an interface with several pairs, which follows the pairs that were negotiated.
    fn control(&self, activation: &mut Activation) -> Option<(usize, Control)> {
        let Service::Net(config) = self.server.service() else { return None };
        let features = activation.features;
        let pairs = if features & 1 << VIRTIO_NET_F_MQ == 0 { 1 } else { config.pairs };
        let queue = activation.queues.get_mut(2 * pairs).and_then(Option::take);
        let queue = queue.filter(|_| features & 1 << VIRTIO_NET_F_CTRL_VQ != 0)?;
        let backend = Arc::new(Pairs(Arc::clone(&self.server)));
        Some((2 * pairs, Control::new(backend, queue, features, pairs)))
    }
}

impl VirtioDevice for VhostUser {
    fn device_id(&self) -> u16 {
        super::id(match self.server.service() {
            Service::Fs { .. } => VIRTIO_ID_FS,
            Service::Block { .. } => VIRTIO_ID_BLOCK,
            Service::Net(_) => VIRTIO_ID_NET,
        })
    }
    fn class(&self) -> u32 {
        match self.server.service() {
            Service::Fs { .. } | Service::Block { .. } => 0x01_80_00,
            Service::Net(_) => 0x02_00_00,
        }
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::VhostUser
    }
    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }
    fn features(&self) -> u64 {
        let service = self.server.service();
        service.own_features() | service.server_features() & self.server.features()
    }
    fn ring_features(&self) -> u64 {
        super::RING_FEATURES & self.server.features()
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        super::read_config_bytes(self.server.config(), offset, data);
    }
    fn activate(&self, mut activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let features = activation.features;
        let control = self.control(&mut activation);
        let (watched, control) =
            control.map_or((Vec::new(), None), |(queue, control)| (vec![queue], Some(control)));
        let served = self.server.service().served_queues();
        let mut queues = Vec::new();
        for ((index, queue), kick) in (0..served).zip(activation.queues).zip(activation.doorbells) {
            let Some(queue) = queue else { continue };
            let call = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
            queues.push(ServedQueue { index, queue, kick, call, base: 0 });
        }
        if queues.is_empty() {
            return Err(ActivateError::QueueMissing { found: 0, needed: 1 });
        }
        let rings = Rings::new(Arc::clone(&self.server), Arc::clone(&self.memory), features, queues, control);
        Ok(vec![WorkerSpec {
            suffix: String::new(),
            queues: watched,
            host_cpus: Vec::new(),
            handler: Box::new(rings),
        }])
    }
}

/// The pairs of an interface as its control queue sees them.
#[derive(Debug)]
struct Pairs(Arc<Server>);

impl NetBackend for Pairs {
    fn queue(&self, _pair: usize) -> Option<BorrowedFd<'_>> {
        None
    }
    fn set_offloads(&self, _offloads: GuestOffloads) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn use_pairs(&self, count: usize) -> io::Result<()> {
        self.0.enable_first(2 * count).map_err(io::Error::other)
    }
}
