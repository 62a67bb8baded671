//! The thread of the balloon: it gives pages of guest memory back to the host.

use libc::*;

use crate::seccomp::ioctls::KVM_SIGNAL_MSI;
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    // Private memory is given back by advice, memory of a file by a hole in it.
    Rules::new().allow([SYS_fallocate, SYS_timerfd_settime]).allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI])
}
