//! What can be wrong with the state.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use crate::domain::DomainError;

/// What can be wrong with the state.
#[derive(Debug, Error)]
pub enum StateError {
    /// No directory is known.
    #[error("no directory for state: set {variable}, or give {option} DIRECTORY")]
    NoDirectory {
        /// Option that says it.
        option: &'static str,
        /// Variable that says it.
        variable: &'static str,
    },
    /// A file or directory cannot be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of ours holds something else.
    #[error("{} is damaged: restore it, or remove the domain with `redoubt undefine`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A path is too long for the kernel.
    #[error("{} is longer than the {limit} bytes of a socket's path: give a shorter --run-dir", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Longest path.
        limit: usize,
    },
    /// Another command works on the domain.
    #[error("another command has been working on domain {name:?} for {} s: wait for it, or end it", patience.as_secs())]
    Busy {
        /// The domain.
        name: String,
        /// How long was waited.
        patience: Duration,
    },
    /// There is no such domain.
    #[error("there is no domain {key:?}: `redoubt list --all` shows those there are")]
    NoDomain {
        /// Name or identifier that was given.
        key: String,
    },
    /// Another domain has the identifier.
    #[error("domain {other:?} has the uuid {uuid} already: leave the uuid out to get a new one")]
    UuidTaken {
        /// The identifier.
        uuid: Uuid,
        /// Who has it.
        other: String,
    },
    /// A domain is there with another identifier.
    #[error(
        "domain {name:?} is defined with the uuid {uuid}: write that uuid into the definition to change it, or undefine it first"
    )]
    NameTaken {
        /// The domain.
        name: String,
        /// Its identifier.
        uuid: Uuid,
    },
    /// The definition cannot be used.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

impl StateError {
    /// Turns an error of the system into one that says what was to be done.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
