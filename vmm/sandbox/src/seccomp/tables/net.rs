//! Threads of network interfaces: they move packets between guest memory and an open tap device.

use libc::*;

use crate::seccomp::ioctls::{KVM_SIGNAL_MSI, TUNSETOFFLOAD, TUNSETQUEUE};
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    Rules::new()
        .allow([SYS_timerfd_settime])
        // Which offloads the guest has accepted is known when it activates the interface, and how many queues it uses
        // when it has said so. Both take a descriptor of the tap device; it was opened before there were filters.
        .allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI, TUNSETOFFLOAD, TUNSETQUEUE])
}
