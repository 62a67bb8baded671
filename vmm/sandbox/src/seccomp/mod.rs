//! System call filters: each kind of thread may ask the kernel for what its table lists, and for nothing else.

mod ioctls;
mod rules;
mod tables;

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::Error;
use rules::Rules;

/// What happens to a system call that is not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeccompMode {
    /// It ends the process with `SIGSYS`.
    #[default]
    Enforce,
    /// It is carried out, and the kernel's audit log tells of it.
    Log,
    /// It is carried out: there are no filters.
    Off,
}

/// Kinds of threads, each with a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadKind {
    /// Serves the management interface.
    Api,
    /// Gives memory back to the host.
    Balloon,
    /// Serves a disk.
    Block,
    /// Passes bytes of a console.
    Console,
    /// Builds the VM and takes it down.
    Main,
    /// Serves a network interface.
    Net,
    /// Writes persistent memory to its file.
    Pmem,
    /// Serves the entropy source.
    Rng,
    /// Waits for signals.
    Signal,
    /// Runs the guest.
    Vcpu,
    /// Talks to a device server in another process.
    VhostUser,
    /// Serves the socket device.
    Vsock,
    /// Waits for the guest to feed the watchdog.
    Watchdog,
}

impl ThreadKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Api,
        Self::Balloon,
        Self::Block,
        Self::Console,
        Self::Main,
        Self::Net,
        Self::Pmem,
        Self::Rng,
        Self::Signal,
        Self::Vcpu,
        Self::VhostUser,
        Self::Vsock,
        Self::Watchdog,
    ];
}

/// The filters of all kinds, compiled.
#[derive(Debug)]
pub struct Filters {
    /// Empty where there are none.
    programs: BTreeMap<ThreadKind, BpfProgram>,
    no_clone3: BpfProgram,
}

impl Filters {
    /// Compiles the filters for this process: they name its own identifier, so a child cannot use them.
    ///
    /// # Errors
    ///
    /// [`Error::Filter`] on a processor architecture for which there are no tables.
    pub fn new(mode: SeccompMode) -> Result<Self, Error> {
        let refused = match mode {
            SeccompMode::Enforce => SeccompAction::KillProcess,
            SeccompMode::Log => SeccompAction::Log,
            SeccompMode::Off => return Ok(Self { programs: BTreeMap::new(), no_clone3: Vec::new() }),
        };
        let mut programs = BTreeMap::new();
        for kind in ThreadKind::ALL {
            let program = compile(&tables::rules(kind), refused.clone(), SeccompAction::Allow);
            programs.insert(kind, program.map_err(Error::Filter)?);
        }
        let clone3 = Rules::new().allow([libc::SYS_clone3]);
        let no_such_call = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let no_clone3 = compile(&clone3, SeccompAction::Allow, no_such_call).map_err(Error::Filter)?;
        Ok(Self { programs, no_clone3 })
    }

    /// Binds the calling thread, and every thread that it starts from now on, for good. A thread that is bound already
    /// must satisfy both filters.
    ///
    /// # Errors
    ///
    /// [`Error::Seccomp`] when the kernel refuses the filter: it has no seccomp, or memory is short.
    pub fn apply(&self, kind: ThreadKind) -> Result<(), Error> {
        let Some(program) = self.programs.get(&kind) else { return Ok(()) };
        let failed = |source| Error::Seccomp { kind, source };
        if tables::starts_threads(kind) {
            apply_filter(&self.no_clone3).map_err(failed)?;
        }
        apply_filter(program).map_err(failed)
    }
}

fn compile(rules: &Rules, others: SeccompAction, listed: SeccompAction) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules.translate()?, others, listed, TargetArch::try_from(ARCH)?)?.try_into()
}

#[cfg(test)]
mod tests;
