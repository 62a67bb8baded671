//! Bounds of a process on Linux, for a process that serves somebody hostile.
//!
//! | Module | Bound |
//! |---|---|
//! | [`cgroup`] | Share of the machine: control group, memory, processor time |
//! | [`namespaces`] | Which users, mounts and network interfaces there are |
//! | [`limits`] | rlimits, file modes, core dumps |
//! | [`landlock`] | What can be opened |
//! | [`privileges`] | Capabilities |
//! | [`seccomp`] | What can be asked of the kernel, by kind of thread |
//!
//! All but the system call filters are set at once, while the process has one thread ([`Bounds::enter`]): most of them
//! bind the calling thread, and those that it starts later.

#![forbid(unsafe_code)]

pub mod cgroup;
mod error;
pub mod landlock;
pub mod limits;
pub mod namespaces;
pub mod privileges;
pub mod seccomp;

use std::fs;

pub use cgroup::Cgroup;
pub use error::Error;
pub use landlock::{LandlockReport, PathAccess, PathRule};
pub use limits::Limits;
pub use namespaces::{Namespace, Namespaces};
pub use seccomp::{Filters, SeccompMode, ThreadKind};

/// The bounds of a process, but for system call filters. What takes a privilege must be done before.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Keeps the caller's privileges, file modes and core dumps. What is asked for below is set nevertheless.
    pub unhardened: bool,
    /// Control group to move to.
    pub cgroup: Option<Cgroup>,
    /// Limits of the process.
    pub limits: Limits,
    /// Namespaces of its own.
    pub namespaces: Namespaces,
    /// What can be opened; without it, whatever its user can open.
    pub landlock: Option<Vec<PathRule>>,
}

impl Bounds {
    /// Sets the bounds, for good. The process must have one thread.
    ///
    /// # Errors
    ///
    /// [`Error`] that names the bound which cannot be had. The process must then end: it may be bound in part.
    pub fn enter(&self) -> Result<Option<LandlockReport>, Error> {
        require_single_thread()?;
        // Control groups are found in /sys, which needs the caller's privileges and mounts.
        if let Some(cgroup) = &self.cgroup {
            cgroup.enter()?;
        }
        // The maps of a user namespace belong to the process for as long as it can be dumped.
        self.namespaces.enter()?;
        self.limits.apply()?;
        if !self.unhardened {
            limits::keep_secrets()?;
        }
        let report = self.landlock.as_deref().map(landlock::restrict).transpose()?;
        if !self.unhardened {
            privileges::drop_privileges()?;
        }
        Ok(report)
    }
}

/// Most bounds belong to the thread that sets them, and a process with several cannot get a user namespace.
fn require_single_thread() -> Result<(), Error> {
    let tasks = fs::read_dir("/proc/self/task");
    let tasks = tasks.map_err(|source| Error::Privileges { action: "count the threads in /proc", source })?;
    match tasks.count() {
        1 => Ok(()),
        threads => Err(Error::Threads { threads }),
    }
}
