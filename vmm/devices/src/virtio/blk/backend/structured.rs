//! Images behind a format driver: qcow2, and raw images that pass the host's page cache by.

use std::fs::File as HostFile;
use std::io;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use imago::FormatAccess;
use imago::file::File;
use imago::format::PreallocateMode;

use super::{BlockBackend, PlainFile, shrinks};

/// What is written where an image cannot just say that there are zeroes.
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// A disk in an image with a format of its own.
pub(super) struct Structured {
    // Discarding changes what data lies where, for which the library wants to be alone.
    access: RwLock<FormatAccess<File>>,
    read_only: bool,
    /// The image's file and its alignment, where the image is raw.
    plain: Option<(HostFile, u64)>,
}

impl Structured {
    pub(super) fn new(access: FormatAccess<File>, read_only: bool) -> Self {
        Self { access: RwLock::new(access), read_only, plain: None }
    }

    /// A raw image, whose file takes what is a multiple of `alignment`.
    pub(super) fn raw(access: FormatAccess<File>, read_only: bool, file: HostFile, alignment: u64) -> Self {
        Self { plain: Some((file, alignment)), ..Self::new(access, read_only) }
    }

    fn access(&self) -> RwLockReadGuard<'_, FormatAccess<File>> {
        self.access.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockBackend for Structured {
    fn size(&self) -> u64 {
        self.access().size()
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.access().read(data, offset)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.access().write(data, offset)
    }
    fn flush(&self) -> io::Result<()> {
        let access = self.access();
        access.flush()?;
        access.sync()
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        match access.discard_to_any(offset, len) {
            // Discarding is advice.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        if unmap {
            let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
            match access.discard_to_zero(offset, len) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                result => return result,
            }
        }
        let access = self.access();
        match access.write_zeroes(offset, len) {
            // Version 2 of qcow2 has no mark for zeroes.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                (0..len).step_by(ZEROES.len()).try_for_each(|at| {
                    let left = usize::try_from(len - at).unwrap_or(ZEROES.len());
                    access.write(ZEROES.get(..left).unwrap_or(&ZEROES), offset + at)
                })
            }
            result => result,
        }
    }
    fn grow(&self, size: u64) -> io::Result<()> {
        let access = self.access();
        if size < access.size() {
            return Err(shrinks(access.size(), size));
        }
        access.resize_grow(size, PreallocateMode::Zero)
    }
    fn plain_file(&self) -> Option<PlainFile<'_>> {
        let (file, alignment) = self.plain.as_ref()?;
        Some(PlainFile { file, alignment: *alignment, guards_start: false })
    }
}
