//! A TPM that belongs to an emulated machine.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use tempfile::TempDir;

use crate::{Error, START_PAUSE, START_TRIES};

/// A TPM for QEMU, which alone sends it commands. It ends when this is dropped.
pub struct Chip {
    directory: TempDir,
    process: Option<Child>,
}

impl Chip {
    /// Makes a TPM with certificates for its endorsement keys.
    ///
    /// # Errors
    /// [`Error`] says what is missing or what failed.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { directory: crate::manufacture()?, process: None })
    }

    /// Starts it, and gives the socket that QEMU's `-tpmdev emulator` wants. It ends with QEMU; its non-volatile memory stays.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::Silent`].
    pub fn power_on(&mut self) -> Result<PathBuf, Error> {
        self.end();
        let socket = self.directory.path().join("machine.ctrl");
        // One that ended by itself has left it.
        let _ = fs::remove_file(&socket);
        let control = crate::channel(self.directory.path(), "machine.ctrl");
        self.process = Some(crate::start(self.directory.path(), &["--terminate", "--ctrl", &control])?);
        for _ in 0..START_TRIES {
            if socket.exists() {
                return Ok(socket);
            }
            std::thread::sleep(START_PAUSE);
        }
        Err(Error::Silent)
    }

    /// The certificates of the manufacturer: root and sub CA, in PEM.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn manufacturer(&self) -> Result<String, Error> {
        crate::manufacturer(self.directory.path())
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Already gone is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        self.end();
    }
}
