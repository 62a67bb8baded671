//! What each kind of thread may ask of the kernel: one table per kind, for people to read.
//!
//! A thread is bound by the filter of the thread that started it and by its own, so a kind that starts others must
//! itself be allowed all that they are; [`started_by`] says who starts whom. Where a table allows a call for a reason
//! that its name does not tell, it says so.

mod api;
mod balloon;
mod block;
mod common;
mod console;
mod main;
mod net;
mod pmem;
mod rng;
mod signal;
mod spawn;
mod vcpu;
mod vhost_user;
mod vsock;
mod watchdog;

use super::ThreadKind;
use super::rules::Rules;

/// Kinds of device threads. A vCPU starts them when the guest activates the device.
const DEVICES: [ThreadKind; 9] = [
    ThreadKind::Balloon,
    ThreadKind::Block,
    ThreadKind::Console,
    ThreadKind::Net,
    ThreadKind::Pmem,
    ThreadKind::Rng,
    ThreadKind::VhostUser,
    ThreadKind::Vsock,
    ThreadKind::Watchdog,
];

/// Kinds of threads that a thread of this kind starts.
fn started_by(kind: ThreadKind) -> &'static [ThreadKind] {
    match kind {
        ThreadKind::Main => &[ThreadKind::Api, ThreadKind::Console, ThreadKind::Signal, ThreadKind::Vcpu],
        ThreadKind::Vcpu => &DEVICES,
        _ => &[],
    }
}

/// Whether threads of this kind start others.
pub(super) fn starts_threads(kind: ThreadKind) -> bool {
    !started_by(kind).is_empty()
}

/// All that a thread of this kind may ask of the kernel.
pub(super) fn rules(kind: ThreadKind) -> Rules {
    let own = match kind {
        ThreadKind::Api => api::rules(),
        ThreadKind::Balloon => balloon::rules(),
        ThreadKind::Block => block::rules(),
        ThreadKind::Console => console::rules(),
        ThreadKind::Main => main::rules(),
        ThreadKind::Net => net::rules(),
        ThreadKind::Pmem => pmem::rules(),
        ThreadKind::Rng => rng::rules(),
        ThreadKind::Signal => signal::rules(),
        ThreadKind::Vcpu => vcpu::rules(),
        ThreadKind::VhostUser => vhost_user::rules(),
        ThreadKind::Vsock => vsock::rules(),
        ThreadKind::Watchdog => watchdog::rules(),
    };
    let started = started_by(kind);
    let spawn = if starts_threads(kind) { spawn::rules() } else { Rules::new() };
    started.iter().fold(common::rules().and(own).and(spawn), |all, &kind| all.and(rules(kind)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn calls(kind: ThreadKind) -> BTreeSet<i64> {
        rules(kind).calls().into_iter().collect()
    }

    #[test]
    fn no_thread_may_execute_trace_mount_or_change_who_it_is() {
        let never = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_userfaultfd,
            libc::SYS_kill,
        ];
        for kind in ThreadKind::ALL {
            let calls = calls(kind);
            assert!(never.iter().all(|call| !calls.contains(call)), "{kind:?}");
        }
    }

    #[test]
    fn threads_of_devices_neither_open_files_nor_start_threads() {
        for kind in DEVICES {
            let calls = calls(kind);
            for call in [libc::SYS_openat, libc::SYS_clone, libc::SYS_clone3, libc::SYS_seccomp] {
                assert!(!calls.contains(&call), "{kind:?}: {call}");
            }
        }
        assert!(!calls(ThreadKind::Vcpu).contains(&libc::SYS_openat));
    }

    #[test]
    fn whoever_starts_a_thread_may_do_what_it_may() {
        for kind in ThreadKind::ALL {
            let calls_of_starter = calls(kind);
            for &started in started_by(kind) {
                assert!(calls(started).is_subset(&calls_of_starter), "{kind:?} starts {started:?}");
            }
        }
    }
}
