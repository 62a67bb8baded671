//! Real PostgreSQL and MariaDB for tests: Debian's packages, started by the first test that needs one, shared by all that run
//! at the same time, in this process or another, and stopped soon after the last of them.
//!
//! The servers listen on Unix sockets only. They do not wait for disks: it is not they whose death is tested.

#![forbid(unsafe_code)]

mod mariadb;
mod postgres;
mod shared;

use std::io;
use std::path::{Path, PathBuf};

pub use mariadb::mariadb;
pub use postgres::postgres;

/// A server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not installed.
    #[error("there is no {server} in {place}; `cargo xtask test` installs Debian's package {package}")]
    Missing {
        /// Which server.
        server: &'static str,
        /// Where it was looked for.
        place: &'static str,
        /// What brings it.
        package: &'static str,
    },
    /// A file cannot be used.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of its programs fails.
    #[error("{program} failed: {output}")]
    Program {
        /// The program.
        program: String,
        /// What it said.
        output: String,
    },
}

fn file(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}
