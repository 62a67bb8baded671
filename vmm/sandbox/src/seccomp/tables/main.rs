//! The main thread: it builds the VM, again after each reset, and takes it down. So it opens what the configuration
//! names, maps memory, and creates VMs and vCPUs; it executes nothing and reaches no network.

use libc::*;

use crate::seccomp::ioctls::{
    BLKGETSIZE64, BLKPBSZGET, BLKSSZGET, FIONBIO, KVM_LETTER, LETTER, TCGETS, TCGETS2, TCSETS, TCSETS2,
    TIOCGPTN, TIOCSPTLCK, TUNGETIFF, TUNSETVNETHDRSZ,
};
use crate::seccomp::rules::{Rules, int, int_bits};

/// Requests besides KVM's.
const REQUESTS: [u32; 12] = [
    // The terminal that a console borrows, and pseudo-terminals.
    TCGETS,
    TCSETS,
    TCGETS2,
    TCSETS2,
    TIOCGPTN,
    TIOCSPTLCK,
    FIONBIO,
    // Block devices.
    BLKGETSIZE64,
    BLKSSZGET,
    BLKPBSZGET,
    // Tap devices that a client has opened. To open one or to give it an address takes privileges that are gone by now.
    TUNGETIFF,
    TUNSETVNETHDRSZ,
];

pub(super) fn rules() -> Rules {
    Rules::new()
        // Which requests build a VM depends on the host's kernel and on the kind of Realm.
        .allow_if(SYS_ioctl, [int_bits(1, LETTER, KVM_LETTER)])
        .allow_values(SYS_ioctl, 1, REQUESTS)
        // Files.
        .allow([SYS_openat, SYS_newfstatat, SYS_fstat, SYS_statx, SYS_readlinkat, SYS_unlinkat, SYS_flock])
        .allow([SYS_fstatfs, SYS_statfs, SYS_getcwd, SYS_getdents64, SYS_ftruncate])
        // Guest memory: made of a file, filled ahead, bound to nodes of the host; vCPUs, bound to its processors.
        .allow([SYS_memfd_create, SYS_mbind, SYS_set_mempolicy, SYS_mlock2, SYS_sched_setaffinity])
        .allow([SYS_pipe2, SYS_io_uring_setup, SYS_io_uring_register])
        // Unix sockets to listen on.
        .allow_if(SYS_socket, [int(0, AF_UNIX.cast_unsigned())])
        .allow_if(SYS_socketpair, [int(0, AF_UNIX.cast_unsigned())])
        .allow([SYS_bind, SYS_listen, SYS_connect, SYS_getsockname, SYS_getsockopt, SYS_setsockopt])
        // vhost-user servers, which are told what they are to serve before the guest runs; one that does not answer is
        // hung up on.
        .allow([SYS_sendmsg, SYS_recvmsg, SYS_recvfrom, SYS_shutdown])
        // Handlers of signals: one is installed when the first vCPU starts.
        .allow([SYS_rt_sigaction])
        .and(legacy())
}

/// Older forms that C libraries use where they exist.
#[cfg(target_arch = "x86_64")]
fn legacy() -> Rules {
    Rules::new().allow([SYS_open, SYS_stat, SYS_lstat, SYS_readlink, SYS_unlink])
}

#[cfg(not(target_arch = "x86_64"))]
fn legacy() -> Rules {
    Rules::new()
}
