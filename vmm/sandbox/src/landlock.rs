//! Landlock: the process can open what is listed, and nothing else; it makes no TCP connections.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::Error;

/// Newest version of the kernel's interface that these rules were tested with. A right of a newer one is not handled,
/// so it is not taken away either.
const TESTED: ABI = ABI::V6;

/// What older versions of the interface cannot forbid (Linux, `userspace-api/landlock.rst`).
const SINCE: [(i32, &str); 4] = [
    (3, "truncating files (Linux 6.2)"),
    (4, "TCP connections (Linux 6.7)"),
    (5, "ioctls of devices (Linux 6.10)"),
    (6, "abstract Unix sockets and signals to other processes (Linux 6.12)"),
];

/// A file or directory that the process may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// What needs it, for error messages.
    pub purpose: String,
    /// The file, or the directory with all below it. It must exist.
    pub path: PathBuf,
    /// What for.
    pub access: PathAccess,
}

/// What a path may be used for. Nothing may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAccess {
    /// Read it, and list a directory.
    Read,
    /// Change it, and make and remove files in a directory.
    Write,
    /// Both.
    ReadWrite,
    /// Make and remove Unix sockets in a directory.
    Sockets,
}

impl PathAccess {
    fn rights(self, directory: bool) -> BitFlags<AccessFs> {
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let write = make_bitflags!(AccessFs::{
            WriteFile | Truncate | IoctlDev | MakeReg | MakeDir | MakeSock | MakeFifo | MakeSym | RemoveFile
                | RemoveDir | Refer
        });
        let rights = match self {
            Self::Read => read,
            Self::Write => write,
            Self::ReadWrite => read | write,
            Self::Sockets => make_bitflags!(AccessFs::{MakeSock | RemoveFile}),
        };
        // The kernel refuses rights of directories for a file.
        if directory { rights } else { rights & AccessFs::from_file(TESTED) }
    }
}

/// What the kernel enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandlockReport {
    /// Version of the kernel's interface.
    pub abi: i32,
    /// What the rules would forbid, had the kernel the means.
    pub not_enforced: Vec<&'static str>,
}

/// Confines the calling thread, and every thread that it starts from now on, to `rules`, for good.
///
/// Files that are open already stay usable. An older kernel enforces what it can, and the report says what it cannot.
///
/// # Errors
///
/// [`Error::NoLandlock`], [`Error::LandlockPath`] or [`Error::Landlock`].
pub fn restrict(rules: &[PathRule]) -> Result<LandlockReport, Error> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(TESTED))?
        .handle_access(AccessNet::from_all(TESTED))?
        .scope(Scope::from_all(TESTED))?
        .create()?;
    for rule in rules {
        let (fd, directory) = open(rule).map_err(|source| Error::LandlockPath {
            purpose: rule.purpose.clone(),
            path: rule.path.clone(),
            source,
        })?;
        let rights = rule.access.rights(directory);
        if !rights.is_empty() {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, rights))?;
        }
    }
    let status = ruleset.restrict_self()?;
    match (status.landlock, status.ruleset) {
        (LandlockStatus::NotImplemented, _) => Err(Error::NoLandlock { found: "was built without it" }),
        (LandlockStatus::NotEnabled, _) => Err(Error::NoLandlock { found: "was started without it" }),
        (_, RulesetStatus::NotEnforced) => Err(Error::NoLandlock { found: "enforces none of it" }),
        (LandlockStatus::Available { effective_abi, kernel_abi }, _) => {
            let abi = kernel_abi.unwrap_or(effective_abi as i32);
            let missing = SINCE.into_iter().filter(|(since, _)| *since > abi);
            Ok(LandlockReport { abi, not_enforced: missing.map(|(_, what)| what).collect() })
        }
    }
}

/// The path, and whether it is a directory.
fn open(rule: &PathRule) -> io::Result<(std::os::fd::OwnedFd, bool)> {
    let fd = openat(CWD, &rule.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let directory = FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Directory;
    Ok((fd, directory))
}
