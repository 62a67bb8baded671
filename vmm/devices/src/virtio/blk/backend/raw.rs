//! Images and block devices that hold a disk byte for byte.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{BlockBackend, PlainFile, shrinks};
use crate::virtio::blk::SECTOR;

/// Why a disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RawFileError {
    /// The file cannot be opened.
    #[error("cannot open disk image {path}; check that it exists and that this user may access it")]
    Open {
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The file holds no whole sector.
    #[error("disk image {path} has {size} bytes; it must be a multiple of 512, and not empty")]
    Size {
        /// The image.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
}

/// A file or block device that holds the disk byte for byte.
pub struct RawFile {
    file: File,
    size: AtomicU64,
    read_only: bool,
}

impl RawFile {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`RawFileError`].
    pub fn open(path: &Path, read_only: bool) -> Result<Self, RawFileError> {
        let open = OpenOptions::new().read(true).write(!read_only).open(path);
        let sized = open.and_then(|mut file| {
            // Block devices have no length in their metadata.
            let size = file.seek(SeekFrom::End(0))?;
            Ok(Self { file, size: AtomicU64::new(size), read_only })
        });
        let disk = sized.map_err(|source| RawFileError::Open { path: path.into(), source })?;
        let size = disk.size();
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(RawFileError::Size { path: path.into(), size });
        }
        Ok(disk)
    }

    fn zero_by_writing(&self, offset: u64, len: u64) -> io::Result<()> {
        static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];
        let mut done = 0;
        while done < len {
            let step = usize::try_from(len - done).unwrap_or(usize::MAX).min(ZEROES.len());
            self.file.write_all_at(ZEROES.get(..step).unwrap_or(&ZEROES), offset + done)?;
            done += step as u64;
        }
        Ok(())
    }
}

impl BlockBackend for RawFile {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(data, offset)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            // Discarding is advice: a host file system without holes keeps the data.
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let flags = if unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, offset, len) {
            Err(Errno::OPNOTSUPP) => self.zero_by_writing(offset, len),
            result => Ok(result?),
        }
    }
    fn grow(&self, size: u64) -> io::Result<()> {
        let present = (&self.file).seek(SeekFrom::End(0))?;
        if self.file.metadata()?.is_file() {
            if size < present {
                return Err(shrinks(present, size));
            }
            self.file.set_len(size)?;
        } else if size != present {
            let text = format!("the block device has {present} bytes; grow it first, or ask for that size");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.size.store(size, Ordering::Release);
        Ok(())
    }
    fn plain_file(&self) -> Option<PlainFile<'_>> {
        Some(PlainFile { file: &self.file, alignment: 1, guards_start: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: usize) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        std::fs::write(&path, vec![0xaa; size]).unwrap();
        (directory, path)
    }

    #[test]
    fn zeroed_ranges_read_as_zero_and_leave_their_neighbours() {
        for zero in [
            |disk: &RawFile| disk.write_zeroes(512, 1024, false),
            |disk: &RawFile| disk.write_zeroes(512, 1024, true),
            |disk: &RawFile| disk.zero_by_writing(512, 1024),
        ] {
            let (_directory, path) = image(4096);
            let disk = RawFile::open(&path, false).unwrap();
            zero(&disk).unwrap();
            let mut data = [1; 4096];
            disk.read_at(0, &mut data).unwrap();
            assert!(data[..512].iter().chain(&data[1536..]).all(|&byte| byte == 0xaa));
            assert!(data[512..1536].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn image_without_whole_sectors_is_refused() {
        for size in [0, 511, 513] {
            let (_directory, path) = image(size);
            assert!(matches!(RawFile::open(&path, true), Err(RawFileError::Size { .. })), "{size}");
        }
    }

    #[test]
    fn missing_image_is_named_in_the_error() {
        let error = RawFile::open(Path::new("/nonexistent/disk.raw"), true).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/disk.raw"));
    }
}
