//! What there is of a domain while it runs, and what remains of it.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use client::Client;
use serde::{Deserialize, Serialize};

use crate::domain::Domain;

use super::dirs::read_bounded;
use super::observe::DomainState;
use super::process::Process;
use super::store::{read_domain, to_json};
use super::volume::{create_dir_with, remove_all, remove_dir_whole, replace_file, sweep};
use super::{DomainLock, MAX_FILE, State, StateError, Volume, lock, names_in};

/// How a domain ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// [`DomainState::ShutOff`] or [`DomainState::Crashed`].
    pub state: DomainState,
    /// Why, in words.
    pub reason: String,
}

/// The files of a domain that runs or has run.
#[derive(Clone, Debug)]
pub struct Runtime {
    path: PathBuf,
}

impl Runtime {
    /// Whether there is anything.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The definition with which it was started; `None` when the start did not come so far.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] or [`StateError::Io`].
    pub fn domain(&self) -> Result<Option<Domain>, StateError> {
        read_domain(self.path.join("domain.json"))
    }

    /// Whether its VMM lives.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn is_alive(&self) -> Result<bool, StateError> {
        let path = self.path.join("alive");
        lock::is_alive(&path).map_err(StateError::io("look at the lock", &path))
    }

    /// Its VMM: as noted, or as found among the processes when the command that started it could not note it.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] or [`StateError::Io`].
    pub fn process(&self) -> Result<Option<Process>, StateError> {
        if let Some(process) = self.read("process.json")? {
            return Ok(Some(process));
        }
        let argument = self.socket_argument();
        Process::with_argument(&argument).map_err(StateError::io("look for processes in", "/proc".as_ref()))
    }

    /// How it ended, when that has been seen.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] or [`StateError::Io`].
    pub fn ended(&self) -> Result<Option<Ended>, StateError> {
        self.read("ended.json")
    }

    /// Socket of its VMM.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("api.sock")
    }

    /// File to which its VMM writes events.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    /// Value of the option that tells the VMM its socket; no other process is started with it.
    #[must_use]
    pub fn socket_argument(&self) -> String {
        format!("path={}", self.socket().display())
    }

    /// A client of its VMM.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.socket())
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        let bytes = read_bounded(&path, MAX_FILE).map_err(StateError::io("read", &path))?;
        let Some(bytes) = bytes else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| StateError::Damaged { path, source })
    }
}

impl<V: Volume> State<V> {
    /// What there is of a domain that runs or has run.
    #[must_use]
    pub fn runtime(&self, name: &str) -> Runtime {
        Runtime { path: self.directories.runtime(name) }
    }

    /// Names of domains that run or have run.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn runtime_names(&self) -> Result<Vec<String>, StateError> {
        names_in(&self.directories.runtimes())
    }

    /// Makes the place for a domain that is about to be started, and the file that its VMM must inherit as a sign of
    /// life. What remains of its last run goes away; the caller has seen that it has ended.
    ///
    /// # Errors
    ///
    /// [`StateError::SocketPath`]; [`StateError::Io`].
    pub fn prepare(&self, lock: &DomainLock, domain: &Domain) -> Result<File, StateError> {
        self.directories.socket(lock.name())?;
        let path = self.directories.runtime(lock.name());
        let explain = || StateError::io("make a place to run in", &path);
        let own = format!(".{}.unfinished", lock.name());
        sweep(&self.volume, &self.directories.runtimes(), |name| name != own).map_err(explain())?;
        remove_dir_whole(&self.volume, &path).map_err(explain())?;
        let bytes = to_json(domain, &path)?;
        create_dir_with(&self.volume, &path, "domain.json", &bytes).map_err(explain())?;
        self.volume.write(&path.join("events"), b"").map_err(explain())?;
        lock::sign_of_life(&path.join("alive")).map_err(explain())
    }

    /// Notes the process of a domain's VMM.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn record(&self, lock: &DomainLock, process: &Process) -> Result<(), StateError> {
        let path = self.directories.runtime(lock.name());
        let write = |name: &str, bytes: &[u8]| {
            let path = path.join(name);
            replace_file(&self.volume, &path, bytes).map_err(StateError::io("write", &path))
        };
        write("process.json", &to_json(process, &path)?)?;
        write("vmm.pid", format!("{}\n", process.pid).as_bytes())
    }

    /// Notes how a domain ends, before it is made to.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn announce_end(&self, lock: &DomainLock, ended: &Ended) -> Result<(), StateError> {
        let path = self.directories.runtime(lock.name()).join("ended.json");
        let bytes = to_json(ended, &path)?;
        replace_file(&self.volume, &path, &bytes).map_err(StateError::io("write", &path))
    }

    /// Takes back how a domain ends, as it does not.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn withdraw_end(&self, lock: &DomainLock) -> Result<(), StateError> {
        let path = self.directories.runtime(lock.name()).join("ended.json");
        remove_all(&self.volume, &path).map_err(StateError::io("remove", &path))
    }

    /// Clears up after a domain whose VMM has ended: how it ended stays, the rest goes. Of a domain that is not defined
    /// nothing stays. A domain that lives is left alone.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn settle(&self, lock: &DomainLock) -> Result<(), StateError> {
        let runtime = self.runtime(lock.name());
        if !runtime.exists() || runtime.is_alive()? {
            return Ok(());
        }
        let explain = || StateError::io("clear up", &runtime.path);
        if !self.directories.definition(lock.name()).exists() {
            return remove_dir_whole(&self.volume, &runtime.path).map_err(explain());
        }
        // A note that cannot be read is replaced by what the other files say.
        if !matches!(runtime.ended(), Ok(Some(_))) {
            self.announce_end(lock, &self.why_ended(&runtime, lock.name())?)?;
        }
        sweep(&self.volume, &runtime.path, |_| false).map_err(explain())?;
        for name in ["api.sock", "vmm.pid", "process.json", "alive"] {
            remove_all(&self.volume, &runtime.path.join(name)).map_err(explain())?;
        }
        Ok(())
    }

    /// How a domain ended, from what its VMM told and from what it did not live to tell.
    pub(super) fn why_ended(&self, runtime: &Runtime, name: &str) -> Result<Ended, StateError> {
        let path = runtime.events();
        let events = super::events::last_events(&path).map_err(StateError::io("read", &path))?;
        let happened = |source, event| super::find_event(&events, source, event);
        let log = self.directories.log(name);
        let off = |reason: String| Ended { state: DomainState::ShutOff, reason };
        let crashed = |reason: String| Ended { state: DomainState::Crashed, reason };
        Ok(if happened("guest", "panic") {
            crashed("the guest crashed".into())
        } else if happened("vm", "shutdown") || happened("vmm", "shutdown") {
            off("the guest powered off, or was shut down".into())
        } else if happened("vm", "booted") {
            // A damaged note says as little as none.
            match runtime.read::<Process>("process.json") {
                Ok(Some(process)) if !process.is_of_this_boot() => off("the host was restarted".into()),
                _ => crashed(format!("its VMM was killed, or failed; {} has its last words", log.display())),
            }
        } else {
            off(format!("its start failed or was interrupted; {} has more", log.display()))
        })
    }
}

impl StateError {
    /// Whether a file was not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
