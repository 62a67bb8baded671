//! Requests that the kernel carries out while the device takes others (io_uring). Whatever is out of the ordinary, and
//! every request that fails a check, is left to [`Disk::serve`], which knows how to answer.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use uring::{Completion, Operation, Ring, Transfer};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{GuestAddress, Permissions};

use super::backend::{BlockBackend, PlainFile};
use super::request::{Disk, Failure, HEADER_LEN, Range, count};
use super::{Chain, DeviceQueue, QueueError, SECTOR};
use crate::dma::DmaMemory;

/// Most requests under way for one queue. Without a bound a guest with long queues would have the host keep as many.
const MOST_IN_FLIGHT: u16 = 128;

/// Where the ring of a queue is between two lives of the device: threads of devices may use rings, not make them.
pub(super) type Home = Arc<Mutex<Option<Ring>>>;

/// A ring for each queue, if the disk is a plain file and the kernel has rings.
pub(super) fn rings(backend: &dyn BlockBackend, queue_sizes: &[u16]) -> Result<Vec<Home>, uring::Error> {
    let Some(plain) = backend.plain_file() else { return Ok(Vec::new()) };
    let ring = |size: &u16| Ring::new(plain.file, (*size).min(MOST_IN_FLIGHT).into());
    queue_sizes.iter().map(|size| Ok(Arc::new(Mutex::new(Some(ring(size)?))))).collect()
}

/// The requests of one queue that are under way.
pub(super) struct InFlight {
    ring: Option<Ring>,
    home: Home,
    requests: BTreeMap<u64, Request>,
    next_token: u64,
}

/// A request that the kernel works on.
struct Request {
    head: u16,
    /// Guest address of its status byte.
    status: u64,
    /// Bytes that the guest finds written at its end.
    written: u32,
    kind: Kind,
}

/// What an error, or the end, means.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    /// It is advice.
    Discard,
    WriteZeroes {
        range: Range,
        durable: bool,
    },
}

impl InFlight {
    /// Takes the ring from its home, if it is there.
    pub(super) fn new(home: &Home) -> Option<Self> {
        let ring = home.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Self { ring: Some(ring), home: Arc::clone(home), requests: BTreeMap::new(), next_token: 0 })
    }

    /// Whether another request can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.ring.as_ref().is_some_and(Ring::has_room)
    }

    /// Readable when requests have ended.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ring.as_ref().map(AsFd::as_fd)
    }

    /// Takes a request, if it is one for the kernel.
    pub(super) fn take(
        &mut self,
        disk: &Disk,
        chain: &Chain,
        write_through: bool,
    ) -> Result<bool, QueueError> {
        let Some((request, operation)) = prepare(disk, chain, write_through) else { return Ok(false) };
        self.push(request, operation)?;
        Ok(true)
    }

    fn push(&mut self, request: Request, operation: Operation) -> Result<(), QueueError> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        ring.push(self.next_token, operation)?;
        self.requests.insert(self.next_token, request);
        self.next_token += 1;
        Ok(())
    }

    /// Has the kernel begin what was taken.
    pub(super) fn submit(&mut self) -> Result<(), QueueError> {
        Ok(self.ring.as_mut().map_or(Ok(()), Ring::submit)?)
    }

    /// Returns requests that have ended to the driver.
    pub(super) fn complete(&mut self, disk: &Disk, queue: &mut DeviceQueue) -> Result<(), QueueError> {
        let ended = self.ring.as_mut().map_or_else(|| Ok(Vec::new()), Ring::completed)?;
        self.finish(ended, disk, queue)
    }

    /// Waits until every request has ended, and returns them.
    pub(super) fn drain(&mut self, disk: &Disk, queue: &mut DeviceQueue) -> Result<(), QueueError> {
        while !self.requests.is_empty() {
            let ended = self.ring.as_mut().map_or_else(|| Ok(Vec::new()), Ring::drain)?;
            self.finish(ended, disk, queue)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        ended: Vec<Completion>,
        disk: &Disk,
        queue: &mut DeviceQueue,
    ) -> Result<(), QueueError> {
        let any = !ended.is_empty();
        for (token, result) in ended {
            let Some(request) = self.requests.remove(&token) else { continue };
            let result = match (request.kind, result) {
                (Kind::WriteZeroes { durable: true, .. }, Ok(())) => {
                    self.push(Request { kind: Kind::Plain, ..request }, Operation::Flush)?;
                    continue;
                }
                (Kind::Discard, Err(error)) if is_unsupported(&error) => Ok(()),
                (Kind::WriteZeroes { range, durable }, Err(error)) if is_unsupported(&error) => {
                    let Range { offset, len, unmap } = range;
                    let zeroed = disk.backend.write_zeroes(offset, len, unmap);
                    zeroed.and_then(|()| if durable { disk.backend.flush() } else { Ok(()) })
                }
                (_, result) => result,
            };
            let status = disk.status(result.map_err(Failure::Host));
            queue.write_byte(request.status, status)?;
            queue.complete(request.head, request.written)?;
        }
        if any {
            self.submit()?;
            queue.notify()?;
        }
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // A driver that resets the device hears no more of what was under way.
        if let Some(mut ring) = self.ring.take()
            && ring.drain().is_ok()
        {
            *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(ring);
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::OPNOTSUPP)
}

/// The request of `chain` as the kernel is to carry it out, if it is in order.
fn prepare(disk: &Disk, chain: &Chain, write_through: bool) -> Option<(Request, Operation)> {
    let mut reader = chain.reader().ok()?;
    let mut header = [0; HEADER_LEN];
    reader.read_exact(&mut header).ok()?;
    let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
    let sector = u64::from_le_bytes(sector);
    // Where the parts lie is looked up once: a driver could change it between a check and the use.
    let (writable, status) = Parts::of(chain.writable_ranges()).split_last_byte()?;
    let mut written = 1;
    let mut kind = Kind::Plain;
    let plain = disk.backend.plain_file()?;
    let operation = match u32::from_le_bytes([k0, k1, k2, k3]) {
        VIRTIO_BLK_T_IN => {
            let (offset, len) = disk.checked(sector, writable.len()).ok()?;
            written += u32::try_from(len).ok()?;
            let transfer = writable.transfer(chain.memory(), &plain, offset, Permissions::Write)?;
            count(&disk.counters.read_ops, 1);
            count(&disk.counters.read_bytes, len);
            Operation::Read(transfer)
        }
        VIRTIO_BLK_T_OUT => {
            let readable = Parts::of(chain.readable_ranges()).without_first(HEADER_LEN as u64);
            let (offset, len) = disk.checked(sector, readable.len()).ok()?;
            if disk.backend.read_only() || plain.guards_start && offset < SECTOR {
                return None;
            }
            let transfer = readable.transfer(chain.memory(), &plain, offset, Permissions::Read)?;
            count(&disk.counters.write_ops, 1);
            count(&disk.counters.write_bytes, len);
            Operation::Write { transfer, durable: write_through }
        }
        VIRTIO_BLK_T_FLUSH => {
            count(&disk.counters.flush_ops, 1);
            Operation::Flush
        }
        VIRTIO_BLK_T_DISCARD if disk.sparse => {
            let len = reader.available_bytes();
            let Range { offset, len, .. } = disk.range(&mut reader, len, 0).ok()??;
            kind = Kind::Discard;
            Operation::PunchHole { offset, len }
        }
        VIRTIO_BLK_T_WRITE_ZEROES => {
            let len = reader.available_bytes();
            let range = disk.range(&mut reader, len, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP).ok()??;
            kind = Kind::WriteZeroes { range, durable: write_through };
            let Range { offset, len, unmap } = range;
            if unmap { Operation::PunchHole { offset, len } } else { Operation::ZeroRange { offset, len } }
        }
        _ => return None,
    };
    Some((Request { head: chain.head(), status, written, kind }, operation))
}

/// Parts of guest memory, by address and length.
struct Parts(Vec<(u64, u64)>);

impl Parts {
    fn of(ranges: impl Iterator<Item = (u64, u32)>) -> Self {
        Self(ranges.filter(|&(_, len)| len > 0).map(|(address, len)| (address, len.into())).collect())
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|(_, len)| len).sum()
    }

    /// The parts without their last byte, and where that one is.
    fn split_last_byte(mut self) -> Option<(Self, u64)> {
        let (address, len) = self.0.pop()?;
        if len > 1 {
            self.0.push((address, len - 1));
        }
        Some((self, address.checked_add(len - 1)?))
    }

    fn without_first(self, bytes: u64) -> Self {
        let mut skip = bytes;
        let rest = self.0.into_iter().filter_map(|(address, len)| {
            let skipped = skip.min(len);
            skip -= skipped;
            (len > skipped).then_some((address.wrapping_add(skipped), len - skipped))
        });
        Self(rest.collect())
    }

    /// A transfer of these parts, if the device may access them all and the file takes them as they are.
    fn transfer(
        self,
        memory: &DmaMemory,
        plain: &PlainFile<'_>,
        offset: u64,
        access: Permissions,
    ) -> Option<Transfer> {
        let fits = |value: u64| value.is_multiple_of(plain.alignment);
        if self.0.is_empty() || !fits(offset) || !self.0.iter().all(|&(at, len)| fits(at) && fits(len)) {
            return None;
        }
        let place = |(address, len): (u64, u64)| {
            let len = usize::try_from(len).ok()?;
            Some((memory.translate(GuestAddress(address), len, access).ok()?, len))
        };
        let ranges = self.0.into_iter().map(place).collect::<Option<Vec<_>>>()?;
        Transfer::new(memory.backing(), ranges, offset).ok()
    }
}

#[cfg(test)]
mod tests;
