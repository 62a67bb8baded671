//! The thread of the socket device: it accepts and makes connections of Unix sockets, and of no others.

use libc::*;

use crate::seccomp::ioctls::{FIONBIO, KVM_SIGNAL_MSI};
use crate::seccomp::rules::{Rules, int};

pub(super) fn rules() -> Rules {
    Rules::new()
        .allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI, FIONBIO])
        .allow_if(SYS_socket, [int(0, AF_UNIX.cast_unsigned())])
        .allow([SYS_connect, SYS_accept4, SYS_recvfrom, SYS_shutdown])
}
