//! Limits of the process: rlimits, file modes, core dumps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

use crate::Error;

/// Limits of the process; what is absent stays as the caller set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open files.
    pub nofile: Option<u64>,
    /// Largest file in bytes.
    pub fsize: Option<u64>,
    /// Locked memory in bytes.
    pub memlock: Option<u64>,
}

impl Limits {
    /// Sets the limits, soft and hard.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] when the caller's own limit is lower.
    pub fn apply(&self) -> Result<(), Error> {
        if self.fsize.is_some() {
            // A write beyond the limit is to be an error, not the end of the process. The flag itself is of no interest.
            signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)))
                .map_err(|source| Error::Privileges { action: "take SIGXFSZ", source })?;
        }
        set("fsize", Resource::Fsize, self.fsize)?;
        set("memlock", Resource::Memlock, self.memlock)?;
        set("nofile", Resource::Nofile, self.nofile)
    }
}

fn set(name: &'static str, resource: Resource, value: Option<u64>) -> Result<(), Error> {
    let Some(value) = value else { return Ok(()) };
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }).map_err(|source| {
        let ceiling = getrlimit(resource).maximum;
        let ceiling = ceiling.map_or_else(|| "unlimited".into(), |ceiling| ceiling.to_string());
        Error::Limit { name, value, ceiling, source: source.into() }
    })
}

/// Keeps what the process holds in memory to itself: it leaves no core dump and no other process of its user can look
/// into it; files and sockets that it makes are its user's alone.
///
/// # Errors
///
/// [`Error::Limit`] or [`Error::Privileges`].
pub fn keep_secrets() -> Result<(), Error> {
    set("core", Resource::Core, Some(0))?;
    umask(Mode::RWXG | Mode::RWXO);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|source| Error::Privileges { action: "forbid dumps", source: io::Error::from(source) })
}
