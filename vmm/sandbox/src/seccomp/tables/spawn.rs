//! What a thread needs that starts other threads and binds them with filters of their own.

use libc::*;

use crate::seccomp::rules::{Rules, bits, int};

/// Flags of `clone` that matter: a thread of this process, in the namespaces of this process.
const FLAGS: u64 = (CLONE_THREAD | NAMESPACES).cast_unsigned() as u64;
const NAMESPACES: i32 =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

pub(super) fn rules() -> Rules {
    Rules::new()
        .allow_if(SYS_clone, [bits(0, FLAGS, CLONE_THREAD.cast_unsigned().into())])
        // Its flags are in memory, where a filter cannot see them: another filter, applied with this one,
        // answers that there is no such call, and the C library takes `clone`.
        .allow([SYS_clone3])
        .allow_values(SYS_prctl, 0, [PR_SET_NO_NEW_PRIVS.cast_unsigned()])
        .allow_if(SYS_seccomp, [int(0, SECCOMP_SET_MODE_FILTER)])
        // Descriptors that device threads wait for.
        .allow([SYS_epoll_create1, SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_settime, SYS_dup])
}
