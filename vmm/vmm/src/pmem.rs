//! Persistent memory of the VM: a file of the host, and how the guest sees it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use api::config::PmemConfig;
use devices::virtio::pmem::{Discarded, Persist, Pmem as Device};
use machine::layout::BLOCK_SIZE;
use thiserror::Error;

use crate::Error;
use crate::board::DeviceMemory;

/// A file that stays open and locked from one boot to the next.
pub struct Pmem {
    config: PmemConfig,
    file: File,
    size: u64,
}

/// Why a file cannot be persistent memory.
#[derive(Debug, Error)]
enum Unusable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is in use by another VM; stop that one, or give every one of them discard_writes")]
    InUse,
    #[error(
        "{size} bytes: persistent memory is a multiple of 2 MiB and not empty; make the file longer, or say how much of it with size"
    )]
    Size { size: u64 },
    #[error("it has {found} bytes and {size} were asked for; make it longer")]
    Short { found: u64, size: u64 },
    #[error("it is a directory: say with size how much memory is to be made there")]
    NoSize,
}

impl Pmem {
    /// Opens and locks the files of `configs`, unless they are among those of `open`.
    ///
    /// # Errors
    ///
    /// [`Error::Device`].
    pub fn open_all(configs: &[PmemConfig], open: &[Arc<Self>]) -> Result<Vec<Arc<Self>>, Error> {
        let pmem = |config: &PmemConfig| {
            if let Some(known) = open.iter().find(|pmem| pmem.config == *config) {
                return Ok(Arc::clone(known));
            }
            let path = &config.file;
            let opened = Self::open(config).map_err(|source| Error::Device {
                field: "pmem.file",
                path: path.clone(),
                source: source.into(),
            })?;
            tracing::info!(id = opened.id(), path = %path.display(), bytes = opened.size, "persistent memory");
            Ok(Arc::new(opened))
        };
        configs.iter().map(pmem).collect()
    }

    fn open(config: &PmemConfig) -> Result<Self, Unusable> {
        let path: &Path = &config.file;
        let mut options = OpenOptions::new();
        options.read(true).write(!config.discard_writes);
        let file = if path.is_dir() {
            // A file without a name: it goes with the VMM.
            let size = config.size.ok_or(Unusable::NoSize)?;
            let flags = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
            let file = options.write(true).custom_flags(flags).mode(0o600).open(path)?;
            file.set_len(size)?;
            file
        } else {
            options.open(path)?
        };
        let locked = if config.discard_writes { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Unusable::InUse),
            Err(TryLockError::Error(error)) => {
                let path = path.display();
                tracing::warn!(%path, "the file cannot be locked, so nothing keeps others from it: {error}");
            }
        }
        // Block devices have no length in their metadata.
        let found = (&file).seek(SeekFrom::End(0))?;
        let size = config.size.unwrap_or(found);
        if size == 0 || !size.is_multiple_of(BLOCK_SIZE) {
            return Err(Unusable::Size { size });
        }
        if found < size {
            return Err(Unusable::Short { found, size });
        }
        Ok(Self { config: config.clone(), file, size })
    }

    /// Name of the device.
    pub fn id(&self) -> &str {
        self.config.id.as_deref().unwrap_or_default()
    }

    /// A device for one boot of the VM, with its memory in `space`.
    ///
    /// # Errors
    ///
    /// [`Error::Assemble`].
    pub fn device(&self, space: &DeviceMemory) -> Result<Device, Error> {
        let failed = |source| Error::Assemble { device: self.id().into(), source };
        let copy = || self.file.try_clone().map_err(|source| failed(source.into()));
        let (shared, mapped) = (!self.config.discard_writes, copy()?);
        let map = |gpa| guest_memory::map_file(gpa, mapped, self.size, shared);
        let (start, slot) = space.show(self.size, map).map_err(failed)?;
        let persist: Box<dyn Persist> = if shared { Box::new(copy()?) } else { Box::new(Discarded) };
        Ok(Device::new(start, self.size, persist, Box::new(slot)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    fn config(path: &Path, size: Option<u64>, discard_writes: bool) -> PmemConfig {
        let mut config: PmemConfig = serde_json::from_str(r#"{"file":""}"#).unwrap();
        (config.file, config.size, config.discard_writes) = (path.into(), size, discard_writes);
        config
    }

    fn refusal(config: &PmemConfig) -> String {
        let error = Pmem::open_all(std::slice::from_ref(config), &[]).err().unwrap();
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
    }

    #[test]
    fn memory_is_as_large_as_the_file_or_as_was_asked_for() {
        let file = file(6 * MIB);
        for (size, expected) in [(None, 6), (Some(4 * MIB), 4)] {
            assert_eq!(Pmem::open(&config(file.path(), size, false)).unwrap().size, expected * MIB);
        }
        let directory = tempfile::tempdir().unwrap();
        let made = Pmem::open(&config(directory.path(), Some(2 * MIB), false)).unwrap();
        assert_eq!(made.file.metadata().unwrap().len(), 2 * MIB);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn sizes_that_a_guest_cannot_use_are_refused_with_what_to_do() {
        let odd = file(3 * MIB);
        for (path, size, says) in [
            (odd.path(), None, "multiple of 2 MiB"),
            (odd.path(), Some(0), "multiple of 2 MiB"),
            (odd.path(), Some(4 * MIB), "make it longer"),
            (Path::new("/tmp"), None, "say with size"),
            (Path::new("/nonexistent"), None, "No such file"),
        ] {
            let message = refusal(&config(path, size, false));
            assert!(message.contains("pmem.file") && message.contains(says), "{message}");
        }
    }

    #[test]
    fn file_is_for_one_vm_that_writes_or_several_that_do_not() {
        let file = file(2 * MIB);
        let (writes, discards) = (config(file.path(), None, false), config(file.path(), None, true));
        let first = Pmem::open_all(std::slice::from_ref(&writes), &[]).unwrap();
        assert!(refusal(&writes).contains("in use") && refusal(&discards).contains("in use"));
        let again = Pmem::open_all(std::slice::from_ref(&writes), &first).unwrap();
        assert!(Arc::ptr_eq(&again[0], &first[0]), "what is open stays open");
        drop((first, again));
        let _readers = [Pmem::open(&discards).unwrap(), Pmem::open(&discards).unwrap()];
        assert!(refusal(&writes).contains("in use"));
    }
}
