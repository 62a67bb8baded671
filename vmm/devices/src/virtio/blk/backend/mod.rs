//! Where the sectors of a disk are kept.

mod image;
mod raw;
mod structured;

use std::fs::File;
use std::io;
use std::sync::Arc;

pub use image::{ImageError, ImageFormat, ImageOptions, open_image};
pub use raw::{RawFile, RawFileError};

/// Keeps the bytes of a disk. Ranges are checked by the caller: they lie inside [`BlockBackend::size`]. Several threads
/// call it at once.
pub trait BlockBackend: Send + Sync {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// Whether writes are refused.
    fn read_only(&self) -> bool;
    /// Fills `data` from `offset`.
    ///
    /// # Errors
    /// The host could not read.
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()>;
    /// Stores `data` at `offset`.
    ///
    /// # Errors
    /// The host could not write.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes finished writes durable.
    ///
    /// # Errors
    /// The host could not: finished writes may be lost.
    fn flush(&self) -> io::Result<()>;
    /// Gives the range back to the host; it may read as anything afterwards.
    ///
    /// # Errors
    /// The host could not.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes the range read as zeroes, keeping it allocated unless `unmap`.
    ///
    /// # Errors
    /// The host could not.
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;
    /// Makes the disk larger; what is new reads as zeroes. A block device of the host has grown already.
    ///
    /// # Errors
    /// The host could not, or the disk would become smaller.
    fn grow(&self, size: u64) -> io::Result<()>;
    /// The file, if the disk is nothing but its bytes: requests may then pass by this trait.
    fn plain_file(&self) -> Option<PlainFile<'_>> {
        None
    }
}

/// A file that holds a disk byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct PlainFile<'a> {
    /// The file.
    pub file: &'a File,
    /// What addresses, lengths and offsets must be multiples of, in bytes; the others go through [`BlockBackend`].
    pub alignment: u64,
    /// Whether writes to the first sector must go through [`BlockBackend`], which looks at them.
    pub guards_start: bool,
}

/// An image that stays open from one device to the next.
impl BlockBackend for Arc<dyn BlockBackend> {
    fn size(&self) -> u64 {
        self.as_ref().size()
    }
    fn read_only(&self) -> bool {
        self.as_ref().read_only()
    }
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.as_ref().read_at(offset, data)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.as_ref().write_at(offset, data)
    }
    fn flush(&self) -> io::Result<()> {
        self.as_ref().flush()
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.as_ref().discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.as_ref().write_zeroes(offset, len, unmap)
    }
    fn grow(&self, size: u64) -> io::Result<()> {
        self.as_ref().grow(size)
    }
    fn plain_file(&self) -> Option<PlainFile<'_>> {
        self.as_ref().plain_file()
    }
}

/// The error of a disk that was to become smaller.
fn shrinks(from: u64, to: u64) -> io::Error {
    let text = format!("the disk has {from} bytes and cannot shrink to {to}: what lies there would be lost");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
