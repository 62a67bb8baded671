//! A receive queue, a transmit queue, and the descriptor between which frames go.

use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::{Errno, read, write};
use tracing::{debug, warn};
use virtio_queue::Writer;
use vmm_sys_util::epoll::EventSet;

use super::{Counters, HEADER_LEN, NetBackend};
use crate::log_limit::LogLimit;
use crate::rate_limit::RateLimiter;
use crate::virtio::{DeviceQueue, EventHandler, QueueError, Source};

/// Largest frame behind its header: the largest IP packet, the Ethernet header and a VLAN tag. Without it a transmit
/// buffer could make the device hold 4 GiB.
const MAX_FRAME: usize = HEADER_LEN + 65_535 + 18;
/// An Ethernet header.
const MIN_FRAME: usize = HEADER_LEN + 14;
/// Frames of one direction before the other has its turn, and the thread looks whether it shall stop.
const BATCH: usize = 128;

const NETWORK: u64 = 0;
const RECEIVE_TIMER: u64 = 1;
const TRANSMIT_TIMER: u64 = 2;

pub(super) struct PairConfig {
    pub(super) backend: Arc<dyn NetBackend>,
    /// Number of the pair; its queues are `2 * index` and the one after.
    pub(super) index: usize,
    pub(super) mergeable: bool,
    pub(super) receive: DeviceQueue,
    pub(super) transmit: DeviceQueue,
    pub(super) receive_limiter: RateLimiter,
    pub(super) transmit_limiter: RateLimiter,
    pub(super) counters: Arc<Counters>,
}

pub(super) struct Pair {
    config: PairConfig,
    /// Room for a frame from the network.
    buffer: Vec<u8>,
    /// Room for a frame from the guest.
    outgoing: Vec<u8>,
    /// Bytes in `buffer` of a frame from the network that has not been delivered.
    received: Option<usize>,
    /// That frame has passed the limits.
    admitted: bool,
    /// The guest has no buffer for the frame.
    starved: bool,
    /// The network takes no frame now.
    congested: bool,
    failures: LogLimit,
}

/// What became of a frame.
enum Delivery {
    Done,
    NoBuffer,
    Dropped,
}

impl Pair {
    pub(super) fn new(config: PairConfig) -> Self {
        Self {
            config,
            buffer: vec![0; MAX_FRAME],
            outgoing: vec![0; MAX_FRAME],
            received: None,
            admitted: false,
            starved: false,
            congested: false,
            failures: LogLimit::default(),
        }
    }

    fn network(&self) -> Option<BorrowedFd<'_>> {
        self.config.backend.queue(self.config.index)
    }

    /// Takes frames from the network to the guest, until either has no more.
    fn receive(&mut self) -> Result<(), QueueError> {
        if self.config.receive_limiter.timer().is_some() {
            return Ok(());
        }
        for _ in 0..BATCH {
            let Some(len) = self.next_received() else { break };
            if !self.admitted && !self.admit_received(len) {
                break;
            }
            self.admitted = true;
            match self.deliver(len)? {
                Delivery::NoBuffer => {
                    self.starved = true;
                    break;
                }
                Delivery::Done => {
                    Counters::add(&self.config.counters.rx_bytes, len - HEADER_LEN);
                    Counters::add(&self.config.counters.rx_frames, 1);
                }
                Delivery::Dropped => Counters::add(&self.config.counters.rx_dropped, 1),
            }
            self.received = None;
            self.admitted = false;
            // Each by itself: the guest takes one while the next is read.
            self.config.receive.notify()?;
        }
        Ok(())
    }

    /// Length of the frame to be delivered next, header included.
    fn next_received(&mut self) -> Option<usize> {
        if self.received.is_none() {
            let network = self.config.backend.queue(self.config.index)?;
            match read(network, &mut self.buffer) {
                Ok(len) if len >= HEADER_LEN => self.received = Some(len),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => self.complain("receive", error),
            }
        }
        self.received
    }

    fn admit_received(&mut self, len: usize) -> bool {
        admit(&mut self.config.receive_limiter, len, &self.failures)
    }

    fn deliver(&mut self, len: usize) -> Result<Delivery, QueueError> {
        let queue = &mut self.config.receive;
        let memory = Arc::clone(queue.memory());
        let mut buffers: Vec<(u16, Writer<'_>)> = Vec::new();
        let mut room = 0_usize;
        // A ring has no more: buffers without room, offered as fast as they are taken, would be collected without end.
        let most = usize::from(queue.layout().size);
        while room < len && buffers.len() < most {
            let Some(chain) = queue.pop()? else {
                buffers.iter().for_each(|_| queue.undo_pop());
                return Ok(Delivery::NoBuffer);
            };
            let head = chain.head();
            let writer = chain.into_writer(&memory)?;
            room = room.saturating_add(writer.available_bytes());
            buffers.push((head, writer));
            if !self.config.mergeable {
                break;
            }
        }
        if room < len {
            // Without merging one buffer must do, and all of the ring's with it; they will for a smaller frame.
            buffers.iter().for_each(|_| queue.undo_pop());
            debug!(len, room, "the guest's receive buffer is too small for a frame");
            return Ok(Delivery::Dropped);
        }
        let count = u16::try_from(buffers.len()).unwrap_or(u16::MAX);
        if let Some(field) = self.buffer.get_mut(HEADER_LEN - 2..HEADER_LEN) {
            field.copy_from_slice(&count.to_le_bytes());
        }
        let mut rest = self.buffer.get(..len).unwrap_or_default();
        let mut used = Vec::with_capacity(buffers.len());
        for (head, mut writer) in buffers {
            let (part, after) = rest.split_at(rest.len().min(writer.available_bytes()));
            // The room was counted above.
            let _ = writer.write_all(part);
            used.push((head, u32::try_from(part.len()).unwrap_or(u32::MAX)));
            rest = after;
        }
        // A driver that sees the first buffer looks for the others at once (virtio 1.2, 5.1.6.4).
        queue.complete_together(&used)?;
        Ok(Delivery::Done)
    }

    /// Takes frames from the guest to the network, until either has no more. The other direction has its turn in between.
    fn transmit(&mut self) -> Result<(), QueueError> {
        while self.transmit_batch()? {
            if !self.starved {
                self.receive()?;
            }
        }
        Ok(())
    }

    /// Returns whether there may be more frames.
    fn transmit_batch(&mut self) -> Result<bool, QueueError> {
        if self.config.transmit_limiter.timer().is_some() || self.congested {
            return Ok(false);
        }
        let mut more = true;
        for _ in 0..BATCH {
            let Some(chain) = self.config.transmit.pop()? else {
                more = false;
                break;
            };
            let mut reader = chain.reader()?;
            let len = reader.available_bytes();
            let room = self.outgoing.get_mut(..len).filter(|room| room.len() >= MIN_FRAME);
            let Some(frame) = room else {
                Counters::add(&self.config.counters.tx_dropped, 1);
                self.config.transmit.reject(chain.head(), "frame of impossible length")?;
                continue;
            };
            // A read from guest memory that was checked when the reader was made cannot fail.
            let _ = reader.read_exact(frame);
            if !admit(&mut self.config.transmit_limiter, len, &self.failures) {
                self.config.transmit.undo_pop();
                more = false;
                break;
            }
            if !self.send(len) {
                self.config.transmit.undo_pop();
                self.congested = true;
                more = false;
                break;
            }
            self.config.transmit.complete(chain.head(), 0)?;
        }
        self.config.transmit.notify()?;
        Ok(more)
    }

    /// Returns whether the outgoing frame of that length has gone, be it to nowhere.
    fn send(&self, len: usize) -> bool {
        let (Some(network), Some(frame)) = (self.network(), self.outgoing.get(..len)) else { return true };
        match write(network, frame) {
            Ok(_) => {
                Counters::add(&self.config.counters.tx_bytes, len - HEADER_LEN);
                Counters::add(&self.config.counters.tx_frames, 1);
            }
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(error) => {
                Counters::add(&self.config.counters.tx_dropped, 1);
                self.complain("send", error);
            }
        }
        true
    }

    fn complain(&self, action: &str, error: Errno) {
        if let Some(count) = self.failures.hit() {
            warn!(count, "network interface: cannot {action} a frame: {error}");
        }
    }
}

/// A timer that fails must not stop the network.
fn admit(limiter: &mut RateLimiter, len: usize, failures: &LogLimit) -> bool {
    limiter.admit((len - HEADER_LEN) as u64).unwrap_or_else(|error| {
        if let Some(count) = failures.hit() {
            warn!(count, "network interface: rate limit not enforced: {error}");
        }
        true
    })
}

impl EventHandler for Pair {
    fn queue_event(&mut self, queue: usize) -> Result<(), QueueError> {
        if queue == 2 * self.config.index {
            self.starved = false;
            self.receive()
        } else {
            self.transmit()
        }
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let receive_timer = self.config.receive_limiter.timer();
        let mut events = EventSet::empty();
        events.set(EventSet::IN, !self.starved && receive_timer.is_none());
        events.set(EventSet::OUT, self.congested);
        let network = self.network().filter(|_| !events.is_empty());
        let network = network.map(|fd| Source { token: NETWORK, fd, events });
        let timer = |token, fd: Option<_>| fd.map(|fd| Source { token, fd, events: EventSet::IN });
        let timers = [
            timer(RECEIVE_TIMER, receive_timer),
            timer(TRANSMIT_TIMER, self.config.transmit_limiter.timer()),
        ];
        network.into_iter().chain(timers.into_iter().flatten()).collect()
    }

    fn source_event(&mut self, token: u64, ready: EventSet) -> Result<(), QueueError> {
        match token {
            RECEIVE_TIMER => {
                self.config.receive_limiter.expired();
                self.receive()
            }
            TRANSMIT_TIMER => {
                self.config.transmit_limiter.expired();
                self.transmit()
            }
            _ => {
                if self.congested && ready.contains(EventSet::OUT) {
                    self.congested = false;
                    self.transmit()?;
                }
                if self.starved { Ok(()) } else { self.receive() }
            }
        }
    }
}
