//! Threads of consoles: those of the devices, and those that pass bytes to a terminal, a socket or a FIFO outside.

use libc::*;

use crate::seccomp::ioctls::{FIONBIO, KVM_IRQ_LINE, KVM_SIGNAL_MSI};
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    Rules::new()
        // The serial port's interrupt is a line, the virtio console's a message.
        .allow_values(SYS_ioctl, 1, [KVM_IRQ_LINE, KVM_SIGNAL_MSI, FIONBIO])
        // A client of the console's socket comes.
        .allow([SYS_accept4, SYS_recvfrom, SYS_shutdown])
}
