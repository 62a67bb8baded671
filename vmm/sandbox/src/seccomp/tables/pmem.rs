//! The thread of persistent memory: it writes what the guest has changed in an open file to its disk.

use libc::*;

use crate::seccomp::ioctls::KVM_SIGNAL_MSI;
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    Rules::new().allow([SYS_fdatasync, SYS_fsync, SYS_msync]).allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI])
}
