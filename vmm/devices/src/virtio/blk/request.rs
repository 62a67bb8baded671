//! One request: a header, data in one direction, a status byte (virtio 1.2, 5.2.6).

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing::warn;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::backend::BlockBackend;
use super::{Counters, MAX_RANGE_SECTORS, MAX_RANGES, SECTOR, SERIAL_LEN};
use crate::log_limit::LogLimit;
use crate::virtio::interrupts::low8;

pub(super) const HEADER_LEN: usize = 16;
const RANGE_LEN: usize = 16;
/// Bytes moved between guest and disk at a time. Without it a request would make the device allocate as much as the
/// guest asks for.
const CHUNK: usize = 128 * 1024;

/// A request without room for a status: there is no way to answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "block request with {readable} readable and {writable} writable bytes lacks a header or a status byte"
)]
pub(super) struct Malformed {
    readable: usize,
    writable: usize,
}

/// Why a request fails, as the guest is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("not supported")]
    Unsupported,
    #[error("outside of the disk, misaligned or read-only")]
    Invalid,
    #[error("{0}")]
    Host(#[from] io::Error),
}

impl Failure {
    fn status(&self) -> u8 {
        low8(match self {
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
            Self::Invalid | Self::Host(_) => VIRTIO_BLK_S_IOERR,
        })
    }
}

/// Part of a disk that is discarded or zeroed, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Whether it may be given back to the host.
    pub(super) unmap: bool,
}

/// Requests are served from here.
pub(super) struct Disk {
    pub(super) backend: Box<dyn BlockBackend>,
    pub(super) serial: [u8; SERIAL_LEN],
    /// Whether what the guest discards is given back to the host.
    pub(super) sparse: bool,
    pub(super) failures: LogLimit,
    pub(super) counters: Counters,
    /// Whether the driver wants writes to be cached until it flushes.
    pub(super) write_back: AtomicBool,
}

impl Disk {
    /// Serves one request and writes its status; returns the bytes written to the guest.
    pub(super) fn serve(
        &self,
        reader: &mut virtio_queue::Reader<'_>,
        mut writer: virtio_queue::Writer<'_>,
        write_through: bool,
    ) -> Result<u32, Malformed> {
        let malformed = Malformed { readable: reader.available_bytes(), writable: writer.available_bytes() };
        let mut header = [0; HEADER_LEN];
        reader.read_exact(&mut header).map_err(|_| malformed)?;
        let data_len = writer.available_bytes().checked_sub(1).ok_or(malformed)?;
        let mut status = writer.split_at(data_len).map_err(|_| malformed)?;

        let result = self.perform(header, reader, &mut writer, write_through);
        status.write_all(&[self.status(result)]).map_err(|_| malformed)?;
        Ok(u32::try_from(writer.bytes_written() + 1).unwrap_or(u32::MAX))
    }

    /// What the guest is told of a request that has ended.
    pub(super) fn status(&self, result: Result<(), Failure>) -> u8 {
        if let Err(Failure::Host(error)) = &result
            && let Some(count) = self.failures.hit()
        {
            warn!(count, "disk I/O failed, the guest is told: {error}");
        }
        if result.is_err() {
            count(&self.counters.failed_ops, 1);
        }
        result.map_or_else(|failure| failure.status(), |()| low8(VIRTIO_BLK_S_OK))
    }

    fn perform(
        &self,
        header: [u8; HEADER_LEN],
        reader: &mut virtio_queue::Reader<'_>,
        writer: &mut virtio_queue::Writer<'_>,
        write_through: bool,
    ) -> Result<(), Failure> {
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([k0, k1, k2, k3]) {
            VIRTIO_BLK_T_IN => self.read(sector, writer),
            VIRTIO_BLK_T_OUT => self.write(sector, reader, write_through),
            VIRTIO_BLK_T_FLUSH => {
                count(&self.counters.flush_ops, 1);
                Ok(self.backend.flush()?)
            }
            VIRTIO_BLK_T_GET_ID => {
                let room = writer.available_bytes().min(SERIAL_LEN);
                Ok(writer.write_all(self.serial.get(..room).unwrap_or(&self.serial))?)
            }
            VIRTIO_BLK_T_DISCARD if self.sparse => match self.range(reader, reader.available_bytes(), 0)? {
                Some(Range { offset, len, .. }) => Ok(self.backend.discard(offset, len)?),
                None => Ok(()),
            },
            VIRTIO_BLK_T_WRITE_ZEROES => {
                match self.range(reader, reader.available_bytes(), VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)? {
                    Some(Range { offset, len, unmap }) => {
                        self.backend.write_zeroes(offset, len, unmap)?;
                        if write_through {
                            self.backend.flush()?;
                        }
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn read(&self, sector: u64, writer: &mut virtio_queue::Writer<'_>) -> Result<(), Failure> {
        let (mut offset, mut left) = self.checked(sector, writer.available_bytes() as u64)?;
        count(&self.counters.read_ops, 1);
        count(&self.counters.read_bytes, left);
        let mut chunk = vec![0; left.min(CHUNK)];
        while left > 0 {
            let step = left.min(CHUNK);
            let Some(chunk) = chunk.get_mut(..step) else { break };
            self.backend.read_at(offset, chunk)?;
            writer.write_all(chunk)?;
            offset += step as u64;
            left -= step;
        }
        Ok(())
    }

    fn write(
        &self,
        sector: u64,
        reader: &mut virtio_queue::Reader<'_>,
        write_through: bool,
    ) -> Result<(), Failure> {
        let (mut offset, mut left) = self.checked(sector, reader.available_bytes() as u64)?;
        if self.backend.read_only() {
            return Err(Failure::Invalid);
        }
        count(&self.counters.write_ops, 1);
        count(&self.counters.write_bytes, left);
        let mut chunk = vec![0; left.min(CHUNK)];
        while left > 0 {
            let step = left.min(CHUNK);
            let Some(chunk) = chunk.get_mut(..step) else { break };
            reader.read_exact(chunk)?;
            self.backend.write_at(offset, chunk)?;
            offset += step as u64;
            left -= step;
        }
        if write_through {
            self.backend.flush()?;
        }
        Ok(())
    }

    /// The range of a `struct virtio_blk_discard_write_zeroes`, unless it is empty.
    pub(super) fn range(
        &self,
        reader: &mut impl Read,
        len: usize,
        known_flags: u32,
    ) -> Result<Option<Range>, Failure> {
        // As many as the configuration space announces.
        if self.backend.read_only() || len != RANGE_LEN * MAX_RANGES as usize {
            return Err(Failure::Invalid);
        }
        let mut range = [0; RANGE_LEN];
        reader.read_exact(&mut range)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = range;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        if flags & !known_flags != 0 {
            return Err(Failure::Unsupported);
        }
        if sectors > MAX_RANGE_SECTORS {
            return Err(Failure::Invalid);
        }
        let (offset, len) = self.checked(sector, u64::from(sectors) * SECTOR)?;
        let unmap = self.sparse && flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0;
        Ok((len > 0).then_some(Range { offset, len: len as u64, unmap }))
    }

    /// Byte offset and length of whole sectors inside the disk.
    pub(super) fn checked(&self, sector: u64, len: u64) -> Result<(u64, usize), Failure> {
        let offset = sector.checked_mul(SECTOR).ok_or(Failure::Invalid)?;
        let end = offset.checked_add(len).ok_or(Failure::Invalid)?;
        if end > self.backend.size() || !len.is_multiple_of(SECTOR) {
            return Err(Failure::Invalid);
        }
        Ok((offset, usize::try_from(len).map_err(|_| Failure::Invalid)?))
    }
}

pub(super) fn count(counter: &AtomicU64, value: usize) {
    counter.fetch_add(value as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
