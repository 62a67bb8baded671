//! Threads of the management interface: they serve one listening Unix socket that is open already, take descriptors
//! from it, and leave all work to the main thread.

use libc::*;

use crate::seccomp::ioctls::FIONBIO;
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    Rules::new()
        .allow([SYS_accept4, SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_shutdown])
        .allow([SYS_getsockname, SYS_getsockopt, SYS_setsockopt])
        .allow_values(SYS_ioctl, 1, [FIONBIO])
}
