//! A ring: what the kernel is doing, and what it has done.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::register::{Probe, Restriction};
use io_uring::{IoUring, opcode};

use crate::{Error, Operation};

/// What a disk needs, and all that a ring lets through.
const OPERATIONS: [u8; 4] =
    [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE, opcode::Fallocate::CODE];

/// `IOSQE_FIXED_FILE` (linux/io_uring.h): the operation is about a file that was registered.
const FIXED_FILE: u8 = 1;

/// How often an operation that was interrupted, or for which the kernel has no room, is begun anew. Without a bound a
/// broken file system would keep a thread busy for ever.
const ATTEMPTS: u32 = 100;

/// How long to wait before the kernel is asked again.
const PAUSE: Duration = Duration::from_millis(1);

/// An operation that has ended: its token, and how.
pub type Completion = (u64, io::Result<()>);

/// Asynchronous I/O on one file.
///
/// Operations are queued by [`Ring::push`], begun by [`Ring::submit`] and end in any order. The descriptor of a ring is
/// readable while [`Ring::completed`] has something to tell.
pub struct Ring {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
}

struct Slot {
    token: u64,
    /// In a box, so that it stays where it is.
    operation: Box<Operation>,
    attempts: u32,
}

impl Ring {
    /// A ring for up to `entries` operations at a time on `file`. The kernel lets it do what [`Operation`] has, on this
    /// file, and nothing else: system call filters do not see what goes through a ring.
    ///
    /// # Errors
    /// [`Error`]: this kernel, or what confines the process, has no such ring.
    pub fn new(file: &File, entries: u32) -> Result<Self, Error> {
        let ring = IoUring::builder().setup_r_disabled().build(entries).map_err(Error::Setup)?;
        let submitter = ring.submitter();
        let mut probe = Probe::new();
        submitter.register_probe(&mut probe).map_err(Error::Restrict)?;
        if !OPERATIONS.iter().all(|&code| probe.is_supported(code)) {
            return Err(Error::Operations);
        }
        submitter.register_files(&[file.as_raw_fd()]).map_err(Error::Restrict)?;
        let mut bounds: Vec<Restriction> = OPERATIONS.map(Restriction::sqe_op).into();
        bounds.push(Restriction::sqe_flags_allowed(FIXED_FILE));
        bounds.push(Restriction::sqe_flags_required(FIXED_FILE));
        submitter.register_restrictions(&mut bounds).map_err(Error::Restrict)?;
        submitter.register_enable_rings().map_err(Error::Restrict)?;
        let entries = entries as usize;
        Ok(Self { ring, slots: (0..entries).map(|_| None).collect(), free: (0..entries).rev().collect() })
    }

    /// Whether another operation can be queued.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Queues an operation, whose end will be told with `token`.
    ///
    /// # Errors
    /// As many operations are under way as the ring takes.
    pub fn push(&mut self, token: u64, operation: Operation) -> io::Result<()> {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "the ring is full");
        let index = self.free.pop().ok_or_else(full)?;
        self.enqueue(index, Slot { token, operation: Box::new(operation), attempts: 0 })
    }

    fn enqueue(&mut self, index: usize, slot: Slot) -> io::Result<()> {
        let entry = slot.operation.entry().user_data(index as u64);
        let place = self.slots.get_mut(index).ok_or(io::ErrorKind::InvalidInput)?;
        *place = Some(slot);
        // SAFETY: what the entry refers to is in `place` until the kernel has told that it is done, or for ever
        // (`Drop`).
        let pushed = unsafe { self.ring.submission().push(&entry) };
        // There are as many entries in the queue as slots, so it has room.
        pushed.map_err(|_| {
            *place = None;
            self.free.push(index);
            io::Error::other("the submission queue is full")
        })
    }

    /// Begins what is queued.
    ///
    /// # Errors
    /// The kernel does not take it, however often it is asked.
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        let mut attempts = 0;
        loop {
            let queued = self.ring.submission().len();
            if queued == 0 && wanted == 0 {
                return Ok(());
            }
            match self.ring.submit_and_wait(wanted) {
                Ok(taken) if taken >= queued => return Ok(()),
                Err(error) if !is_passing(&error) => return Err(error),
                Err(error) if attempts == ATTEMPTS => return Err(error),
                _ if attempts == ATTEMPTS => return Err(io::ErrorKind::WouldBlock.into()),
                _ => attempts += 1,
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What has ended since the last call. What has ended half-way, or was interrupted, goes on.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn completed(&mut self) -> io::Result<Vec<Completion>> {
        let ended: Vec<(usize, i32)> = self
            .ring
            .completion()
            .map(|entry| (usize::try_from(entry.user_data()).unwrap_or(usize::MAX), entry.result()))
            .collect();
        let mut completions = Vec::new();
        for (index, result) in ended {
            let Some(mut slot) = self.slots.get_mut(index).and_then(Option::take) else { continue };
            match slot.proceed(result) {
                Some(outcome) => {
                    self.free.push(index);
                    completions.push((slot.token, outcome));
                }
                None => self.enqueue(index, slot)?,
            }
        }
        self.submit()?;
        Ok(completions)
    }

    /// Waits until nothing is under way, and tells what has ended.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn drain(&mut self) -> io::Result<Vec<Completion>> {
        let mut completions = self.completed()?;
        while !self.is_idle() {
            self.enter(1)?;
            completions.extend(self.completed()?);
        }
        Ok(completions)
    }
}

impl Slot {
    /// How the operation has ended, unless it is to go on.
    fn proceed(&mut self, result: i32) -> Option<io::Result<()>> {
        let Ok(bytes) = usize::try_from(result) else {
            let error = io::Error::from_raw_os_error(result.saturating_neg());
            self.attempts += 1;
            return (!is_passing(&error) || self.attempts >= ATTEMPTS).then_some(Err(error));
        };
        let reads = matches!(*self.operation, Operation::Read(_));
        let Some(transfer) = self.operation.transfer() else { return Some(Ok(())) };
        transfer.advance(bytes);
        match bytes {
            _ if transfer.is_done() => Some(Ok(())),
            0 if reads => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            0 => Some(Err(io::ErrorKind::WriteZero.into())),
            _ => None,
        }
    }
}

/// Whether it is worth asking again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the ring lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Err(error) = self.drain() {
            tracing::error!(%error, "I/O that does not end keeps guest memory");
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

#[cfg(test)]
mod tests;
