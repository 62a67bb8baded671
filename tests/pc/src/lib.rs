//! A PC for tests: UEFI firmware with Secure Boot, and Debian's shim, GRUB and kernel, which measure into a TPM.
//!
//! QEMU emulates it, also its processor, so that it needs no rights on this machine. The kernel measures files by IMA's policy
//! `tcb`, which leaves out file systems in memory: so the system is on a disk ([`Disk`]), whose programs are this machine's.

#![forbid(unsafe_code)]

mod disk;
mod error;
mod machine;
mod packages;

pub use disk::Disk;
pub use error::{Error, Result};
pub use machine::{Finished, Pc, Running};
pub use packages::Packages;
