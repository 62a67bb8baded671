//! Why a process cannot be kept in bounds.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::{Namespace, ThreadKind};

/// A bound that was asked for cannot be had.
#[derive(Debug, Error)]
pub enum Error {
    /// A filter cannot be compiled.
    #[error("there are no system call filters for {} processors", std::env::consts::ARCH)]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel refuses a filter.
    #[error("the kernel refuses the system call filter of {kind:?} threads (it needs CONFIG_SECCOMP_FILTER)")]
    Seccomp {
        /// Kind of thread.
        kind: ThreadKind,
        /// Why.
        #[source]
        source: seccompiler::Error,
    },
    /// The kernel has no Landlock.
    #[error(
        "Landlock was asked for, and this kernel {found}; it needs Linux 5.13 or newer with `landlock` in its list of \
         security modules (lsm=)"
    )]
    NoLandlock {
        /// What was found.
        found: &'static str,
    },
    /// A path that the process is to reach cannot be found.
    #[error("{purpose}: {path} cannot be found, so the process cannot be confined to it")]
    LandlockPath {
        /// What needs the path.
        purpose: String,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Landlock refuses the rules.
    #[error("the kernel refuses the Landlock rules")]
    Landlock(#[from] landlock::RulesetError),
    /// A namespace cannot be had.
    #[error("no {namespace} namespace of its own for this process: {hint}")]
    Namespace {
        /// Which one.
        namespace: Namespace,
        /// What to do.
        hint: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace was made, and cannot be set up.
    #[error("the {namespace} namespace of this process cannot be set up: {action}")]
    NamespaceSetup {
        /// Which one.
        namespace: Namespace,
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name of a control group is none.
    #[error(
        "control group {name:?}: expected a path below the root of the control groups, without `.` and `..`"
    )]
    CgroupName {
        /// What was found.
        name: String,
    },
    /// There are no control groups of version 2.
    #[error("control group: no file system of type cgroup2 is mounted")]
    NoCgroups,
    /// A control group cannot be used.
    #[error("control group: {path}: cannot {action}")]
    Cgroup {
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit cannot be set.
    #[error("limit {name}={value}: the system refuses it; the caller's own limit is {ceiling}")]
    Limit {
        /// Name of the limit.
        name: &'static str,
        /// What was asked for.
        value: u64,
        /// The most that the process may ask for.
        ceiling: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Privileges cannot be given up.
    #[error("privileges cannot be given up: {action}")]
    Privileges {
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process has threads already.
    #[error("this process has {threads} threads; it can only be kept in bounds while it has one")]
    Threads {
        /// How many.
        threads: usize,
    },
}
