//! Threads with a stack of a known size.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Half of what Rust gives by itself. A stack of 2 MiB that happens to be aligned becomes a transparent huge page at the
/// first touch, and all of it is resident although a few pages are used.
const STACK_SIZE: usize = 1 << 20;

/// Starts a thread of that name.
///
/// # Errors
/// The host has no more threads.
pub fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).stack_size(STACK_SIZE).spawn(body)
}
