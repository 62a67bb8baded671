//! The control queue (virtio 1.2, 5.1.6.5).

use std::io::{Read, Write};
use std::sync::Arc;

use tracing::{debug, warn};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_CTRL_MQ,
    VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_MQ,
    VIRTIO_NET_OK,
};

use super::{GUEST_OFFLOADS, GuestOffloads, NetBackend};
use crate::virtio::interrupts::low8;
use crate::virtio::{Chain, DeviceQueue, EventHandler, QueueError};

/// Most bytes of a command that are looked at: class, command and eight bytes.
const MAX_COMMAND: u64 = 10;

pub(in crate::virtio) struct Control {
    backend: Arc<dyn NetBackend>,
    queue: DeviceQueue,
    features: u64,
    /// Pairs that the driver has enabled.
    pairs: usize,
}

impl Control {
    pub(in crate::virtio) fn new(
        backend: Arc<dyn NetBackend>,
        queue: DeviceQueue,
        features: u64,
        pairs: usize,
    ) -> Self {
        Self { backend, queue, features, pairs }
    }

    fn serve(&self, chain: &Chain) -> Result<u32, QueueError> {
        let mut command = Vec::new();
        // A read from guest memory that was checked when the reader was made cannot fail.
        let _ = chain.reader()?.take(MAX_COMMAND).read_to_end(&mut command);
        let done = self.execute(&command);
        if done.is_none() {
            debug!(?command, "network control command refused");
        }
        let answer = low8(if done.is_some() { VIRTIO_NET_OK } else { VIRTIO_NET_ERR });
        let mut writer = chain.writer()?;
        Ok(writer.write(&[answer]).map_or(0, |written| u32::try_from(written).unwrap_or(0)))
    }

    fn execute(&self, command: &[u8]) -> Option<()> {
        let (&class, rest) = command.split_first()?;
        let (&command, data) = rest.split_first()?;
        let has = |bit: u32| self.features & 1 << bit != 0;
        let result = match (u32::from(class), u32::from(command)) {
            (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) if has(VIRTIO_NET_F_MQ) => {
                let pairs = usize::from(u16::from_le_bytes(data.get(..2)?.try_into().ok()?));
                (1..=self.pairs).contains(&pairs).then(|| self.backend.use_pairs(pairs))?
            }
            (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET)
                if has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) =>
            {
                let wanted = u64::from_le_bytes(data.get(..8)?.try_into().ok()?);
                let allowed = self.features & GUEST_OFFLOADS;
                (wanted & !allowed == 0)
                    .then(|| self.backend.set_offloads(GuestOffloads::from_features(wanted)))?
            }
            _ => return None,
        };
        result.inspect_err(|error| warn!("network control command failed: {error}")).ok()
    }
}

impl EventHandler for Control {
    fn queue_event(&mut self, _queue: usize) -> Result<(), QueueError> {
        while let Some(chain) = self.queue.pop()? {
            let written = self.serve(&chain)?;
            self.queue.complete(chain.head(), written)?;
        }
        self.queue.notify()
    }
}
