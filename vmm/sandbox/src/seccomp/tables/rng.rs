//! The thread of the entropy source: it reads from one open file.

use libc::*;

use crate::seccomp::ioctls::KVM_SIGNAL_MSI;
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    Rules::new().allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI])
}
