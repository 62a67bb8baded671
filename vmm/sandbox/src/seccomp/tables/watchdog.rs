//! The thread of the watchdog: it waits for a timer that the guest winds up.

use libc::*;

use crate::seccomp::ioctls::KVM_SIGNAL_MSI;
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    Rules::new().allow([SYS_timerfd_settime]).allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI])
}
