//! What is known about domains, kept in files and in nothing else.
//!
//! There is no daemon: every command reads the files anew, and asks the VMMs that live. Files change whole, under a
//! lock for each domain, so that a command or the host may end at any moment.
//!
//! ```text
//! <state>/domains/NAME/domain.json   the definition
//! <state>/log/NAME.log               what its VMM said when it last ran
//! <run>/domains/NAME/domain.json     the definition with which it was started
//!                    process.json    its VMM: process, its start time, the host's boot
//!                    vmm.pid         the process alone, for systemd
//!                    alive           locked for as long as the VMM lives: the VMM inherits it
//!                    api.sock        where the VMM listens
//!                    events          what the VMM tells, from which is seen why it ended
//!                    ended.json      how it ended, once that has been seen
//! <run>/locks/NAME                   lock of the domain
//! ```

mod dirs;
mod error;
mod events;
mod lock;
mod observe;
mod process;
mod runtime;
mod store;
mod volume;

#[cfg(test)]
mod power_cut;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use dirs::Directories;
pub use error::StateError;
pub use events::{EventReader, find as find_event};
pub use lock::Lock;
pub use observe::{DomainState, Observation};
pub use process::{Process, Thread};
pub use runtime::{Ended, Runtime};
pub use store::Definition;
pub use volume::{Disk, Volume};

/// How long a command waits for another one that works on the same domain.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// Longest file of ours that is read. Without the bound a damaged disk could make a command run out of memory.
const MAX_FILE: u64 = 8 << 20;

/// What is known about domains.
#[derive(Clone, Debug)]
pub struct State<V = Disk> {
    directories: Directories,
    volume: V,
}

/// The right to change what is known about one domain.
#[derive(Debug)]
pub struct DomainLock {
    name: String,
    _lock: Lock,
}

impl DomainLock {
    /// Name of the domain.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl State {
    /// The state in these directories, which are made when they are missing.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn open(directories: Directories) -> Result<Self, StateError> {
        Self::with_volume(directories, Disk)
    }
}

impl<V: Volume> State<V> {
    fn with_volume(directories: Directories, volume: V) -> Result<Self, StateError> {
        directories.create()?;
        Ok(Self { directories, volume })
    }

    /// Where it is.
    #[must_use]
    pub const fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Waits for the right to change a domain.
    ///
    /// # Errors
    ///
    /// [`StateError::Busy`] after a minute; [`StateError::Io`].
    pub fn lock(&self, name: &str) -> Result<DomainLock, StateError> {
        let path = self.directories.locks().join(name);
        let lock = Lock::take(&path, LOCK_PATIENCE).map_err(StateError::io("lock", &path))?;
        let lock = lock.ok_or_else(|| StateError::Busy { name: name.into(), patience: LOCK_PATIENCE })?;
        Ok(DomainLock { name: name.into(), _lock: lock })
    }

    /// The right to change a domain, unless another command has it.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn try_lock(&self, name: &str) -> Result<Option<DomainLock>, StateError> {
        let path = self.directories.locks().join(name);
        let lock = Lock::try_take(&path).map_err(StateError::io("lock", &path))?;
        Ok(lock.map(|lock| DomainLock { name: name.into(), _lock: lock }))
    }
}

/// Names of what is in a directory, without what is unfinished; there need be no directory.
fn names_in(path: &Path) -> Result<Vec<String>, StateError> {
    let explain = StateError::io("read the directory", path);
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(explain(error)),
        Ok(entries) => entries,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(StateError::io("read the directory", path))?.file_name();
        if let Some(name) = name.to_str().filter(|name| crate::domain::check_name(name).is_ok()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
