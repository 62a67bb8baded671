//! vCPU threads: they run the guest and serve its accesses to devices, so they raise interrupts, register doorbells
//! when the guest activates a device, and write what it says to its serial port.

use libc::*;

use crate::seccomp::ioctls::{
    KVM_ARM_VCPU_INIT, KVM_GET_ONE_REG, KVM_IOEVENTFD, KVM_IRQ_LINE, KVM_IRQFD, KVM_RUN,
    KVM_SET_MEMORY_ATTRIBUTES, KVM_SET_MEMORY_ATTRIBUTES2, KVM_SET_ONE_REG, KVM_SET_VCPU_EVENTS,
    KVM_SIGNAL_MSI,
};
use crate::seccomp::rules::Rules;

/// Requests to KVM while the guest runs.
const REQUESTS: [u32; 11] = [
    KVM_RUN,
    // One that the guest turns on anew.
    KVM_ARM_VCPU_INIT,
    KVM_GET_ONE_REG,
    KVM_SET_ONE_REG,
    // The abort that answers an access which cannot be decoded.
    KVM_SET_VCPU_EVENTS,
    KVM_IRQ_LINE,
    KVM_IRQFD,
    KVM_IOEVENTFD,
    KVM_SIGNAL_MSI,
    // A Realm that shares a page or takes it back.
    KVM_SET_MEMORY_ATTRIBUTES,
    KVM_SET_MEMORY_ATTRIBUTES2,
];

pub(super) fn rules() -> Rules {
    Rules::new()
        .allow_values(SYS_ioctl, 1, REQUESTS)
        // A page that a Realm has taken back loses its content.
        .allow([SYS_fallocate])
}
