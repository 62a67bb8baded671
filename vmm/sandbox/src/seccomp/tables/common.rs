//! What every thread needs: memory, locks, descriptors that are open already, time, and its own end.

use libc::*;

use crate::seccomp::rules::{Rules, bits, int, long};

/// Neither memory that can be executed, nor memory that becomes so.
const EXECUTABLE: u64 = PROT_EXEC as u64;

pub(super) fn rules() -> Rules {
    let own_process = std::process::id();
    Rules::new()
        // Memory, of the allocator and of thread stacks.
        .allow([SYS_brk, SYS_madvise, SYS_mremap, SYS_munmap])
        .allow_if(SYS_mmap, [bits(2, EXECUTABLE, 0)])
        .allow_if(SYS_mprotect, [bits(2, EXECUTABLE, 0)])
        // Locks and waiting.
        .allow([SYS_futex, SYS_sched_yield, SYS_ppoll, SYS_epoll_pwait, SYS_epoll_ctl, SYS_restart_syscall])
        // Descriptors that are open.
        .allow([SYS_close, SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_lseek])
        .allow_values(SYS_fcntl, 1, FCNTL)
        // Time, where the vDSO cannot tell it.
        .allow([SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep])
        .allow([SYS_getrandom, SYS_getpid, SYS_gettid])
        // Signals. A handler may run on any thread; that of a signal which ends the VM sends a byte through a socket
        // that is connected, so without an address.
        .allow([SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack])
        .allow_if(SYS_sendto, [long(4, 0)])
        // The thread's name; what C libraries tell the kernel of a thread; the size of its stack.
        .allow_values(SYS_prctl, 0, [PR_SET_NAME.cast_unsigned(), PR_SET_VMA.cast_unsigned()])
        .allow([SYS_rseq, SYS_set_robust_list, SYS_sched_getaffinity])
        // A thread may send signals to its own process: a vCPU is kicked, and a panic aborts. musl names the thread only.
        .allow_if(SYS_tgkill, [int(0, own_process)])
        .allow_values(SYS_tkill, 1, [SIGABRT.cast_unsigned(), SIGRTMIN().cast_unsigned()])
        .allow([SYS_exit, SYS_exit_group])
        .and(legacy())
}

/// Commands of `fcntl`: flags, duplicates and locks; none that sends signals or changes the owner of a pipe or lease.
const FCNTL: [u32; 9] = [
    F_GETFD.cast_unsigned(),
    F_SETFD.cast_unsigned(),
    F_GETFL.cast_unsigned(),
    F_SETFL.cast_unsigned(),
    F_DUPFD_CLOEXEC.cast_unsigned(),
    F_OFD_GETLK.cast_unsigned(),
    F_OFD_SETLK.cast_unsigned(),
    F_OFD_SETLKW.cast_unsigned(),
    F_GET_SEALS.cast_unsigned(),
];

/// Older forms that C libraries use where they exist.
#[cfg(target_arch = "x86_64")]
fn legacy() -> Rules {
    Rules::new().allow([SYS_epoll_wait, SYS_poll])
}

#[cfg(not(target_arch = "x86_64"))]
fn legacy() -> Rules {
    Rules::new()
}
