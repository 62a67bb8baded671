//! Asynchronous I/O between guest memory and one file of the host, by io_uring(7).
//!
//! The kernel moves bytes while the caller goes on, so memory has to stay mapped and lists have to stay where they are
//! until it is done. A [`Ring`] owns both, and whoever drops it waits: callers need no `unsafe`.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod operation;
mod ring;

pub use operation::{Operation, Transfer};
pub use ring::{Completion, Ring};

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel gives none.
    #[error(
        "the kernel gives no ring; it may lack io_uring, or kernel.io_uring_disabled or a system call filter forbids it"
    )]
    Setup(#[source] std::io::Error),
    /// The ring cannot be bound to its file, and to what is done with it.
    #[error("the ring cannot be bound to one file; Linux 5.10 or newer can")]
    Restrict(#[source] std::io::Error),
    /// The kernel cannot do everything that a disk needs.
    #[error("the kernel's io_uring lacks an operation that a disk needs")]
    Operations,
}
