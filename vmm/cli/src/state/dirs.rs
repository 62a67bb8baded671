//! Where state is kept.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::StateError;

/// Longest path of a Unix socket (`sun_path` without its final zero).
const MAX_SOCKET_PATH: usize = 107;

/// The two directories: what outlives the host's restart, and what does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// Definitions and logs.
    pub state: PathBuf,
    /// Sockets, processes and locks.
    pub run: PathBuf,
}

impl Directories {
    /// `/var/lib/redoubt` and `/run/redoubt` for root, `redoubt` in the XDG directories for others; either can be
    /// given instead.
    ///
    /// # Errors
    ///
    /// [`StateError::NoDirectory`] that says which variable to set.
    pub fn locate(state: Option<PathBuf>, run: Option<PathBuf>) -> Result<Self, StateError> {
        Self::of(rustix::process::geteuid().is_root(), |name| env::var_os(name), state, run)
    }

    fn of(
        root: bool,
        variable: impl Fn(&str) -> Option<OsString>,
        state: Option<PathBuf>,
        run: Option<PathBuf>,
    ) -> Result<Self, StateError> {
        // The XDG specification has relative paths ignored.
        let variable = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let default_state = || {
            if root {
                return Some("/var/lib/redoubt".into());
            }
            let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
            data.map(|data| data.join("redoubt"))
        };
        let default_run = || {
            if root {
                return Some("/run/redoubt".into());
            }
            variable("XDG_RUNTIME_DIR").map(|runtime| runtime.join("redoubt"))
        };
        let missing = |option, variable| StateError::NoDirectory { option, variable };
        Ok(Self {
            state: absolute(
                &state.or_else(default_state).ok_or(missing("--state-dir", "XDG_DATA_HOME or HOME"))?,
            )?,
            run: absolute(&run.or_else(default_run).ok_or(missing("--run-dir", "XDG_RUNTIME_DIR"))?)?,
        })
    }

    /// Makes the directories that are missing; nobody else may enter them.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn create(&self) -> Result<(), StateError> {
        for path in [self.definitions(), self.logs(), self.runtimes(), self.locks()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(StateError::io("make the directory", &path))?;
        }
        Ok(())
    }

    /// Directory with one directory for each definition.
    #[must_use]
    pub fn definitions(&self) -> PathBuf {
        self.state.join("domains")
    }

    /// The definition of a domain.
    #[must_use]
    pub fn definition(&self, name: &str) -> PathBuf {
        self.definitions().join(name).join("domain.json")
    }

    /// Directory of logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Log of a domain's VMM.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Directory with one directory for each domain that runs or has run.
    #[must_use]
    pub fn runtimes(&self) -> PathBuf {
        self.run.join("domains")
    }

    /// What there is of a domain while it runs.
    #[must_use]
    pub fn runtime(&self, name: &str) -> PathBuf {
        self.runtimes().join(name)
    }

    /// Directory of locks. They are never removed: whoever waits for one must wait for the same as the next to come.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.run.join("locks")
    }

    /// Socket on which the VMM of a domain listens.
    ///
    /// # Errors
    ///
    /// [`StateError::SocketPath`] when the kernel does not take a path of that length.
    pub fn socket(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.runtime(name).join("api.sock");
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(StateError::SocketPath { path, limit: MAX_SOCKET_PATH });
        }
        Ok(path)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StateError> {
    std::path::absolute(path).map_err(StateError::io("find the directory", path))
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;

    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    if file.take(limit + 1).read_to_end(&mut bytes)? as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(root: bool, variables: &[(&str, &str)]) -> Result<Directories, StateError> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Directories::of(root, find, None, None)
    }

    #[test]
    fn root_and_others_have_their_places() {
        let root = of(true, &[("XDG_DATA_HOME", "/x")]).unwrap();
        assert_eq!((root.state, root.run), ("/var/lib/redoubt".into(), "/run/redoubt".into()));
        let user = of(false, &[("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "/run/user/1")]).unwrap();
        assert_eq!(user.state, PathBuf::from("/home/u/.local/share/redoubt"));
        assert_eq!(user.run, PathBuf::from("/run/user/1/redoubt"));
        let user = of(false, &[("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r")]).unwrap();
        assert_eq!(user.state, PathBuf::from("/d/redoubt"));
    }

    #[test]
    fn a_missing_or_relative_variable_is_named() {
        for variables in [&[("HOME", "/h")][..], &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "relative")]] {
            let error = of(false, variables).unwrap_err().to_string();
            assert!(error.contains("XDG_RUNTIME_DIR") && error.contains("--run-dir"), "{error}");
        }
    }

    #[test]
    fn a_socket_path_that_the_kernel_would_refuse_is_refused_first() {
        let directories = Directories { state: "/s".into(), run: format!("/{}", "r".repeat(90)).into() };
        assert!(matches!(directories.socket("name").unwrap_err(), StateError::SocketPath { .. }));
    }
}
