//! From a path to a disk: format, locks, and what an image may refer to.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use imago::file::File as Storage;
use imago::format::gate::ImplicitOpenGate;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{FormatAccess, FormatDriverBuilder, Storage as _, StorageOpenOptions};
use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};
use tracing::warn;

use super::raw::{RawFile, RawFileError};
use super::structured::Structured;
use super::{BlockBackend, PlainFile, shrinks};
use crate::virtio::blk::SECTOR;

/// First bytes of a qcow2 image.
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// Large enough for every disk.
const UNTOLD_ALIGNMENT: u64 = 4096;

/// Most images of which one may be built. Without it an image that names itself would exhaust the stack.
const MAX_CHAIN: usize = 16;

/// Format of a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageFormat {
    /// Found out from the first bytes.
    #[default]
    Probe,
    /// The bytes of the disk, nothing else.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// How an image is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// Format.
    pub format: ImageFormat,
    /// Whether it is only read.
    pub read_only: bool,
    /// Whether the host's page cache is passed by.
    pub direct: bool,
    /// Whether the image may name others, which are then opened.
    pub backing_files: bool,
}

/// Why a disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be opened, or is no raw image.
    #[error(transparent)]
    Raw(#[from] RawFileError),
    /// Somebody else uses it.
    #[error("disk image {path} is in use by another VM; stop that one, or make both read-only")]
    InUse {
        /// The image.
        path: PathBuf,
    },
    /// The image names another file.
    #[error(
        "disk image {path} refers to another file; if it comes from somebody you trust, allow that with backing_files=on"
    )]
    BackingFile {
        /// The image.
        path: PathBuf,
        /// What the image refers to.
        #[source]
        source: io::Error,
    },
    /// The image is damaged, or uses a feature that is not supported.
    #[error("disk image {path} cannot be opened as {format}")]
    Format {
        /// The image.
        path: PathBuf,
        /// The format that was tried.
        format: &'static str,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
}

/// Opens a disk image and locks it for as long as it is open: for itself alone, or against writers if it is read-only.
///
/// # Errors
/// [`ImageError`].
pub fn open_image(path: &Path, options: &ImageOptions) -> Result<Box<dyn BlockBackend>, ImageError> {
    let failed = |source| RawFileError::Open { path: path.into(), source };
    let file = OpenOptions::new().read(true).write(!options.read_only).open(path).map_err(failed)?;
    lock(&file, path, options.read_only)?;
    let backend: Box<dyn BlockBackend> = match (options.format, is_qcow2(&file).map_err(failed)?) {
        (ImageFormat::Qcow2, _) | (ImageFormat::Probe, true) => open_qcow2(&file, path, options)?,
        (ImageFormat::Raw, _) => open_raw(path, options)?,
        // What a guest writes into a raw image must not make it a qcow2 image next time.
        (ImageFormat::Probe, false) => Box::new(ProbedRaw(open_raw(path, options)?)),
    };
    Ok(Box::new(Locked { backend, _lock: file }))
}

fn lock(file: &File, path: &Path, shared: bool) -> Result<(), ImageError> {
    let result = if shared { file.try_lock_shared() } else { file.try_lock() };
    match result {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ImageError::InUse { path: path.into() }),
        Err(TryLockError::Error(error)) => {
            warn!("disk image {} cannot be locked, so nothing keeps others from it: {error}", path.display());
            Ok(())
        }
    }
}

fn is_qcow2(file: &File) -> io::Result<bool> {
    let mut magic = [0; QCOW2_MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) => Ok(magic == QCOW2_MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_raw(path: &Path, options: &ImageOptions) -> Result<Box<dyn BlockBackend>, ImageError> {
    let file = RawFile::open(path, options.read_only)?;
    if !options.direct {
        return Ok(Box::new(file));
    }
    let failed = |source| ImageError::Format { path: path.into(), format: "raw", source };
    let storage = Storage::open(storage_options(path, options)).map_err(failed)?;
    let image = Raw::builder(storage).write(!options.read_only).open(Gate { left: 0 }).map_err(failed)?;
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).write(!options.read_only).custom_flags(flags).open(path);
    let file = file.map_err(failed)?;
    let alignment = direct_alignment(&file);
    Ok(Box::new(Structured::raw(FormatAccess::new(image), options.read_only, file, alignment)))
}

/// What memory, lengths and offsets must be multiples of to pass the page cache by.
fn direct_alignment(file: &File) -> u64 {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok();
    // Kernels before 6.1 do not tell, nor do all file systems.
    let told = told.map_or(0, |told| told.stx_dio_mem_align.max(told.stx_dio_offset_align));
    if told == 0 { UNTOLD_ALIGNMENT } else { told.into() }
}

fn open_qcow2(file: &File, path: &Path, options: &ImageOptions) -> Result<Box<dyn BlockBackend>, ImageError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied if !options.backing_files => {
            ImageError::BackingFile { path: path.into(), source }
        }
        _ => ImageError::Format { path: path.into(), format: "qcow2", source },
    };
    let storage = Storage::open(storage_options(path, options)).map_err(failed)?;
    let gate = Gate { left: if options.backing_files { MAX_CHAIN } else { 0 } };
    let image = Qcow2::<Storage>::builder(storage).write(!options.read_only).open(gate).map_err(failed)?;
    if !options.read_only {
        require_first_refcounts(file).map_err(failed)?;
    }
    let access = FormatAccess::new(image);
    if access.size() == 0 || !access.size().is_multiple_of(SECTOR) {
        return Err(RawFileError::Size { path: path.into(), size: access.size() }.into());
    }
    Ok(Box::new(Structured::new(access, options.read_only)))
}

/// Refuses an image without reference counts for its own header, as no intact image is. The library would put them where the
/// header is, not find them there, since offset zero means none, and look for a place for them until its stack ends.
///
/// Offsets of fields: qcow2 specification, "Header" and "Refcount table".
fn require_first_refcounts(file: &File) -> io::Result<()> {
    let (mut table_offset, mut table_clusters, mut first) = ([0; 8], [0; 4], [0; 8]);
    file.read_exact_at(&mut table_offset, 48)?;
    file.read_exact_at(&mut table_clusters, 56)?;
    if u32::from_be_bytes(table_clusters) != 0 {
        file.read_exact_at(&mut first, u64::from_be_bytes(table_offset))?;
    }
    if u64::from_be_bytes(first) >> 9 == 0 {
        let text = "it counts no references to its own header; `qemu-img check -r all` may mend it, and it can be read \
                    (readonly=on)";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(())
}

fn storage_options(path: &Path, options: &ImageOptions) -> StorageOpenOptions {
    StorageOpenOptions::new().filename(path).write(!options.read_only).direct(options.direct)
}

/// Opens what an image refers to, so many times.
struct Gate {
    left: usize,
}

impl Gate {
    fn pass(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it refers to a file, or to too many, one behind the other",
            )
        })?;
        Ok(())
    }
}

impl ImplicitOpenGate<Storage> for Gate {
    fn open_format<F: FormatDriverBuilder<Storage>>(
        &mut self,
        builder: F,
    ) -> io::Result<FormatAccess<Storage>> {
        self.pass()?;
        Ok(FormatAccess::new(builder.open(Self { left: self.left })?))
    }

    fn open_storage(&mut self, builder: StorageOpenOptions) -> io::Result<Storage> {
        self.pass()?;
        Storage::open(builder)
    }
}

/// A backend whose file is locked as long as it lives.
struct Locked {
    backend: Box<dyn BlockBackend>,
    _lock: File,
}

impl BlockBackend for Locked {
    fn size(&self) -> u64 {
        self.backend.size()
    }
    fn read_only(&self) -> bool {
        self.backend.read_only()
    }
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.backend.read_at(offset, data)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write_at(offset, data)
    }
    fn flush(&self) -> io::Result<()> {
        self.backend.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.backend.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.backend.write_zeroes(offset, len, unmap)
    }
    fn grow(&self, size: u64) -> io::Result<()> {
        if size < self.size() {
            return Err(shrinks(self.size(), size));
        }
        self.backend.grow(size)
    }
    fn plain_file(&self) -> Option<PlainFile<'_>> {
        self.backend.plain_file()
    }
}

/// A raw image whose format was not given: the guest may write anything but the mark of another format.
struct ProbedRaw(Box<dyn BlockBackend>);

impl BlockBackend for ProbedRaw {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_only(&self) -> bool {
        self.0.read_only()
    }
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, data)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // Writes are whole sectors, so the mark comes in one piece.
        if offset == 0 && data.starts_with(&QCOW2_MAGIC) {
            let text = "the guest writes the mark of a qcow2 image into a raw image whose format was guessed; \
                        if it may, say image_type=raw";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        self.0.write_at(offset, data)
    }
    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.0.write_zeroes(offset, len, unmap)
    }
    fn grow(&self, size: u64) -> io::Result<()> {
        self.0.grow(size)
    }
    fn plain_file(&self) -> Option<PlainFile<'_>> {
        Some(PlainFile { guards_start: true, ..self.0.plain_file()? })
    }
}

#[cfg(test)]
mod tests {
    use imago::FormatCreateBuilder;

    use super::*;

    const SIZE: u64 = 8 << 20;

    struct Scratch {
        directory: tempfile::TempDir,
    }

    impl Scratch {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn raw(&self, name: &str) -> PathBuf {
            let path = self.path(name);
            File::create(&path).unwrap().set_len(SIZE).unwrap();
            path
        }

        fn qcow2(&self, name: &str, backing: Option<&Path>) -> PathBuf {
            let path = self.path(name);
            drop(File::create(&path).unwrap());
            let storage = Storage::open(StorageOpenOptions::new().filename(&path).write(true)).unwrap();
            let mut builder = Qcow2::<Storage>::create_builder(storage).size(SIZE);
            if let Some(backing) = backing {
                builder = builder.backing(backing.to_str().unwrap().into(), "qcow2".into());
            }
            builder.create().unwrap();
            path
        }
    }

    fn options(format: ImageFormat) -> ImageOptions {
        ImageOptions { format, ..ImageOptions::default() }
    }

    fn exercise(disk: &dyn BlockBackend) {
        let mut data = vec![7; 4096];
        disk.read_at(SIZE - 4096, &mut data).unwrap();
        assert_eq!(data, [0; 4096]);
        disk.write_at(512, &[1; 1024]).unwrap();
        disk.write_at(1 << 20, &vec![2; 1 << 17]).unwrap();
        disk.write_zeroes(1 << 20, 1 << 16, true).unwrap();
        disk.write_zeroes(1024, 512, false).unwrap();
        disk.discard(2 << 20, 1 << 16).unwrap();
        disk.flush().unwrap();
        let mut sectors = [9; 2048];
        disk.read_at(0, &mut sectors).unwrap();
        assert!(sectors.chunks(512).map(|sector| sector[0]).eq([0, 1, 0, 0]));
        disk.read_at((1 << 20) + (1 << 16) - 512, &mut sectors).unwrap();
        assert!(sectors.chunks(512).map(|sector| sector[0]).eq([0, 2, 2, 2]));
        disk.grow(SIZE + (1 << 20)).unwrap();
        assert_eq!(disk.size(), SIZE + (1 << 20));
        disk.read_at(SIZE, &mut sectors).unwrap();
        assert_eq!(sectors, [0; 2048]);
        assert!(disk.grow(SIZE).unwrap_err().to_string().contains("shrink"));
    }

    #[test]
    fn every_format_keeps_what_is_written_and_grows() {
        let scratch = Scratch::new();
        exercise(&*open_image(&scratch.raw("a"), &options(ImageFormat::Raw)).unwrap());
        exercise(&*open_image(&scratch.raw("b"), &options(ImageFormat::Probe)).unwrap());
        let qcow2 = scratch.qcow2("c", None);
        exercise(&*open_image(&qcow2, &options(ImageFormat::Probe)).unwrap());
        let again = open_image(&qcow2, &options(ImageFormat::Qcow2)).unwrap();
        let mut sector = [0; 512];
        again.read_at(512, &mut sector).unwrap();
        assert_eq!((sector, again.size()), ([1; 512], SIZE + (1 << 20)));
    }

    #[test]
    fn page_cache_is_passed_by_where_the_file_system_can() {
        let scratch = Scratch::new();
        let direct = ImageOptions { direct: true, ..options(ImageFormat::Raw) };
        exercise(&*open_image(&scratch.raw("a"), &direct).unwrap());
    }

    #[test]
    fn image_is_for_one_writer_or_several_readers() {
        let scratch = Scratch::new();
        let path = scratch.raw("a");
        let read_only = ImageOptions { read_only: true, ..options(ImageFormat::Raw) };
        let writer = open_image(&path, &options(ImageFormat::Raw)).unwrap();
        for options in [options(ImageFormat::Raw), read_only] {
            assert!(matches!(open_image(&path, &options), Err(ImageError::InUse { .. })));
        }
        drop(writer);
        let _readers = [open_image(&path, &read_only).unwrap(), open_image(&path, &read_only).unwrap()];
        assert!(open_image(&path, &options(ImageFormat::Raw)).is_err());
    }

    #[test]
    fn backing_file_is_opened_only_if_that_was_allowed() {
        let scratch = Scratch::new();
        let base = scratch.qcow2("base", None);
        open_image(&base, &options(ImageFormat::Qcow2)).unwrap().write_at(0, &[5; 512]).unwrap();
        let top = scratch.qcow2("top", Some(&base));
        let refused = open_image(&top, &options(ImageFormat::Qcow2)).err().unwrap();
        assert!(refused.to_string().contains("backing_files=on"), "{refused}");
        let allowed = ImageOptions { backing_files: true, ..options(ImageFormat::Qcow2) };
        let disk = open_image(&top, &allowed).unwrap();
        let mut sector = [0; 512];
        disk.read_at(0, &mut sector).unwrap();
        assert_eq!(sector, [5; 512]);
    }

    #[test]
    fn image_that_names_itself_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path("loop");
        scratch.qcow2("loop", Some(&path));
        let allowed = ImageOptions { backing_files: true, ..options(ImageFormat::Qcow2) };
        assert!(open_image(&path, &allowed).is_err());
    }

    #[test]
    fn guessed_raw_image_cannot_become_another_format() {
        let scratch = Scratch::new();
        let path = scratch.raw("a");
        let mut sector = [0; 512];
        sector[..4].copy_from_slice(&QCOW2_MAGIC);
        let guessed = open_image(&path, &options(ImageFormat::Probe)).unwrap();
        assert!(guessed.write_at(0, &sector).is_err());
        guessed.write_at(512, &sector).unwrap();
        drop(guessed);
        open_image(&path, &options(ImageFormat::Raw)).unwrap().write_at(0, &sector).unwrap();
    }

    #[test]
    fn damaged_qcow2_is_an_error_that_names_the_file() {
        let scratch = Scratch::new();
        let path = scratch.path("bad");
        std::fs::write(&path, [&QCOW2_MAGIC[..], &[0xff; 4092]].concat()).unwrap();
        let error = open_image(&path, &options(ImageFormat::Probe)).err().unwrap();
        assert!(error.to_string().contains("bad"), "{error}");
    }

    /// Writing into such an image would exhaust the stack.
    #[test]
    fn qcow2_that_does_not_count_its_header_is_read_and_not_written() {
        let scratch = Scratch::new();
        let without_block = scratch.qcow2("block", None);
        let file = OpenOptions::new().read(true).write(true).open(&without_block).unwrap();
        let mut table = [0; 8];
        file.read_exact_at(&mut table, 48).unwrap();
        file.write_all_at(&[0; 8], u64::from_be_bytes(table)).unwrap();
        let without_table = scratch.qcow2("table", None);
        let file = OpenOptions::new().write(true).open(&without_table).unwrap();
        file.write_all_at(&[0; 4], 56).unwrap();
        drop(file);
        for path in [without_block, without_table] {
            let error = open_image(&path, &options(ImageFormat::Qcow2)).err().unwrap();
            let ImageError::Format { source, .. } = &error else { panic!("{error}") };
            assert!(source.to_string().contains("qemu-img check"), "{source}");
            let read_only = ImageOptions { read_only: true, ..options(ImageFormat::Qcow2) };
            let disk = open_image(&path, &read_only).unwrap();
            disk.read_at(0, &mut [0; 512]).unwrap();
        }
    }
}
