use std::io;
use std::path::PathBuf;

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the PC cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Packages, modules or libraries cannot be had.
    #[error(transparent)]
    Part(#[from] arm_host::Error),
    /// The TPM cannot be had.
    #[error(transparent)]
    Tpm(#[from] test_swtpm::Error),
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {program}: {source}; `cargo xtask test` installs Debian's package {package}")]
    Start {
        /// Its name.
        program: &'static str,
        /// What brings it.
        package: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The disk cannot be made.
    #[error("mke2fs failed: {0}")]
    Disk(String),
    /// The PC did not do what it should in the time that it had.
    #[error("{what}; the end of its console:\n{tail}")]
    Machine {
        /// What happened or did not.
        what: String,
        /// The console's and QEMU's last lines.
        tail: String,
    },
}

pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { action, path, source }
}
