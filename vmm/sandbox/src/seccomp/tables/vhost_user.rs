//! Threads that talk to a device server in another process, over a Unix socket that passes descriptors.

use libc::*;

use crate::seccomp::ioctls::KVM_SIGNAL_MSI;
use crate::seccomp::rules::{Rules, int};

pub(super) fn rules() -> Rules {
    Rules::new()
        // A server that has gone may come back: the connection is made anew.
        .allow_if(SYS_socket, [int(0, AF_UNIX.cast_unsigned())])
        .allow([SYS_connect, SYS_accept4, SYS_sendmsg, SYS_recvmsg, SYS_recvfrom, SYS_shutdown])
        .allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI])
}
