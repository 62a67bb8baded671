//! Threads of disks: they move bytes between guest memory and one open image.

use libc::*;

use crate::seccomp::ioctls::{BLKDISCARD, BLKZEROOUT, KVM_SIGNAL_MSI};
use crate::seccomp::rules::Rules;

pub(super) fn rules() -> Rules {
    Rules::new()
        .allow([SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2])
        .allow([SYS_fdatasync, SYS_fsync, SYS_fallocate, SYS_ftruncate])
        // The length of the image, in the form that Rust uses and in the older one.
        .allow([SYS_statx, SYS_fstat])
        // Operations in a ring pass by every system call filter. The ring of a disk is set up by the thread that
        // opens the disk; this one only submits to it.
        .allow([SYS_io_uring_enter])
        .allow([SYS_timerfd_settime])
        .allow_values(SYS_ioctl, 1, [KVM_SIGNAL_MSI, BLKDISCARD, BLKZEROOUT])
}
