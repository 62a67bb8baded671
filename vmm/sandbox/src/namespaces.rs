//! Namespaces of its own for the process.

use std::fmt;
use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};

use crate::Error;

/// Kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Users, groups and privileges.
    User,
    /// File systems that are mounted.
    Mount,
    /// Network interfaces.
    Network,
}

impl fmt::Display for Namespace {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Network => "network",
        })
    }
}

/// Namespaces that the process is to have for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// In it only the process's own user and group exist, under the numbers that they have outside, and whatever
    /// privileges the process has are void outside.
    pub user: bool,
    /// What is mounted or unmounted outside from now on is not seen inside, nor the other way round.
    pub mount: bool,
    /// Without any interface that is up.
    pub network: bool,
}

impl Namespaces {
    /// Moves the process, which must have one thread, into new namespaces.
    ///
    /// # Errors
    ///
    /// [`Error::Namespace`] when the system does not give them, [`Error::NamespaceSetup`] or [`Error::Threads`].
    pub fn enter(&self) -> Result<(), Error> {
        if *self == Self::default() {
            return Ok(());
        }
        crate::require_single_thread()?;
        // First, as it gives the right to the others.
        if self.user {
            enter_user_namespace()?;
        }
        if self.mount {
            new(Namespace::Mount, CloneFlags::CLONE_NEWNS)?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).map_err(|source| Error::NamespaceSetup {
                namespace: Namespace::Mount,
                action: "stop mounts from spreading",
                source: source.into(),
            })?;
        }
        if self.network {
            new(Namespace::Network, CloneFlags::CLONE_NEWNET)?;
        }
        Ok(())
    }
}

fn enter_user_namespace() -> Result<(), Error> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    new(Namespace::User, CloneFlags::CLONE_NEWUSER)?;
    let write = |path: &str, text: String, action| {
        fs::write(path, text).map_err(|source| Error::NamespaceSetup {
            namespace: Namespace::User,
            action,
            source,
        })
    };
    // Without it an unprivileged process may not map its group (user_namespaces(7)).
    write("/proc/self/setgroups", "deny".into(), "forbid changes of groups")?;
    write("/proc/self/uid_map", format!("{user} {user} 1"), "map the user")?;
    write("/proc/self/gid_map", format!("{group} {group} 1"), "map the group")
}

fn new(namespace: Namespace, flag: CloneFlags) -> Result<(), Error> {
    unshare(flag).map_err(|errno| {
        let source = io::Error::from(errno);
        let hint = match (namespace, Errno::from_io_error(&source)) {
            (Namespace::User, Some(Errno::PERM | Errno::ACCESS)) => {
                "the host forbids it to this user (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
            }
            (_, Some(Errno::PERM)) => "it takes CAP_SYS_ADMIN, or a user namespace of its own besides",
            (_, Some(Errno::NOSPC | Errno::USERS)) => "the host's limit is reached (/proc/sys/user/max_*_namespaces)",
            _ => "the host's kernel must have been built with it",
        };
        Error::Namespace { namespace, hint, source }
    })
}
