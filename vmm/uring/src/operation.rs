//! What a ring is asked to do.

use std::sync::Arc;

use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{opcode, squeue};
use vm_memory::guest_memory::Error as MemoryError;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// The only file of a ring, by its number there.
const FILE: Fixed = Fixed(0);

/// Most parts that one call of the kernel takes (`UIO_MAXIOV`). What is behind them goes with the next.
const MAX_PARTS: usize = 1024;

/// Something to be done with the file.
#[derive(Debug)]
pub enum Operation {
    /// Fills guest memory.
    Read(Transfer),
    /// Stores guest memory; it is on the disk when the operation ends if `durable`.
    Write {
        /// From where to where.
        transfer: Transfer,
        /// Whether it is to be on the disk at the end.
        durable: bool,
    },
    /// Has every finished write on the disk.
    Flush,
    /// Gives a range back to the host, without changing the file's length. It reads as zeroes.
    PunchHole {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Fills a range with zeroes and keeps it allocated, without changing the file's length.
    ZeroRange {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
}

/// Parts of guest memory, one after the other, and the place in the file that they are read from or written to.
pub struct Transfer {
    /// Keeps what `parts` point to mapped.
    _memory: Arc<GuestMemoryMmap>,
    parts: Vec<libc::iovec>,
    /// The first part that is not done.
    next: usize,
    offset: u64,
}

// SAFETY: `parts` point into `_memory`, which the transfer keeps alive and which may be used from any thread. Nothing
// is reached through them but by the kernel.
unsafe impl Send for Transfer {}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} parts at {}", self.parts.len(), self.offset)
    }
}

impl Transfer {
    /// A transfer between `ranges` (addresses and lengths in bytes) and the file from `offset` on.
    ///
    /// # Errors
    /// A range leaves guest memory.
    pub fn new(
        memory: &Arc<GuestMemoryMmap>,
        ranges: impl IntoIterator<Item = (GuestAddress, usize)>,
        offset: u64,
    ) -> Result<Self, MemoryError> {
        let mut parts = Vec::new();
        for (address, len) in ranges {
            for slice in GuestMemoryBackend::get_slices(memory.as_ref(), address, len) {
                let slice = slice?;
                let iov_base = slice.ptr_guard_mut().as_ptr().cast();
                parts.push(libc::iovec { iov_base, iov_len: slice.len() });
            }
        }
        Ok(Self { _memory: Arc::clone(memory), parts, next: 0, offset })
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.parts.len()
    }

    /// The kernel has moved `bytes`.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let mut left = bytes;
        self.offset = self.offset.saturating_add(bytes as u64);
        while let Some(part) = self.parts.get_mut(self.next) {
            if left < part.iov_len {
                part.iov_base = part.iov_base.wrapping_byte_add(left);
                part.iov_len -= left;
                return;
            }
            left -= part.iov_len;
            self.next += 1;
        }
    }

    /// The parts that one call takes: where they are listed, and how many.
    fn list(&self) -> (*const libc::iovec, u32) {
        let parts = self.parts.get(self.next..).unwrap_or_default();
        (parts.as_ptr(), u32::try_from(parts.len().min(MAX_PARTS)).unwrap_or(0))
    }
}

impl Operation {
    /// As the kernel is told. The entry refers to the operation, which must stay until the kernel is done.
    pub(crate) fn entry(&self) -> squeue::Entry {
        match self {
            Self::Read(transfer) => {
                let (list, len) = transfer.list();
                opcode::Readv::new(FILE, list, len).offset(transfer.offset).build()
            }
            Self::Write { transfer, durable } => {
                let (list, len) = transfer.list();
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                opcode::Writev::new(FILE, list, len).offset(transfer.offset).rw_flags(flags).build()
            }
            Self::Flush => opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(),
            Self::PunchHole { offset, len } => {
                allocate(*offset, *len, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
            }
            Self::ZeroRange { offset, len } => {
                allocate(*offset, *len, libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE)
            }
        }
    }

    pub(crate) fn transfer(&mut self) -> Option<&mut Transfer> {
        match self {
            Self::Read(transfer) | Self::Write { transfer, .. } => Some(transfer),
            Self::Flush | Self::PunchHole { .. } | Self::ZeroRange { .. } => None,
        }
    }
}

fn allocate(offset: u64, len: u64, mode: i32) -> squeue::Entry {
    opcode::Fallocate::new(FILE, len).offset(offset).mode(mode).build()
}
