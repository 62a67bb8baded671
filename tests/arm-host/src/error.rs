use std::{io, path::PathBuf, time::Duration};

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the Arm host cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}; install it, or put it on PATH")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed on standard error.
        output: String,
    },
    /// The machine's apt has no Debian mirror.
    #[error(
        "this machine's apt is configured with no Debian mirror (a source whose URI ends in `debian` with component `main`); \
         the Arm host's kernel is a Debian package: add such a source, or use Debian 12 or 13"
    )]
    NoMirror,
    /// Packages must be installed and nobody here may do it.
    #[error("missing packages need root: install sudo, or run as root: {command}")]
    NeedsRoot {
        /// The command that would install them.
        command: String,
    },
    /// What was installed does not give what it should.
    #[error("{what} is still missing after the installation of {packages}; look at apt's messages above")]
    StillMissing {
        /// The tool.
        what: String,
        /// What was installed.
        packages: String,
    },
    /// A Rust target or component is missing and there is no rustup to add it.
    #[error("the Rust toolchain lacks {what}; install rustup, or add it with your distribution's packages")]
    Toolchain {
        /// The target or component.
        what: String,
    },
    /// No new enough QEMU can be had.
    #[error("QEMU {needed} or newer ({packages}) is needed, and {release} has none; install it on PATH")]
    Qemu {
        /// The Debian packages that would bring it.
        packages: String,
        /// Oldest usable major version.
        needed: u32,
        /// The operating system's release.
        release: String,
    },
    /// A package does not hold what it should.
    #[error("the fetched packages in {root} hold no {what}; delete that directory to fetch them again")]
    PackageContent {
        /// Where they are unpacked.
        root: PathBuf,
        /// What was sought.
        what: String,
    },
    /// A kernel module does not exist.
    #[error("the kernel package has neither a module nor a built-in driver named `{name}`")]
    NoModule {
        /// Its name.
        name: String,
    },
    /// A kernel module cannot be read.
    #[error("cannot read the kernel module {path}: {reason}")]
    BadModule {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A configuration cannot be written as JSON.
    #[error("cannot write the configuration of guest-init: every path in it must be UTF-8")]
    Config(#[source] serde_json::Error),
    /// The machine did not do what it should in the time that it had.
    #[error("{what} after {} s; the end of the console ({console}):\n{tail}", after.as_secs())]
    Machine {
        /// What happened or did not.
        what: String,
        /// Since its start.
        after: Duration,
        /// The whole console.
        console: PathBuf,
        /// The console's last lines.
        tail: String,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
