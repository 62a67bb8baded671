//! What vCPU threads and the watcher of signals report to the main loop.

use crate::Error;

/// Something that ends a boot of the VM.
#[derive(Debug)]
pub enum Event {
    /// The guest powered itself off.
    Off,
    /// The guest asked for a reset.
    Reset,
    /// The guest reported its own crash.
    Crash,
    /// The VM cannot go on.
    Failed(Error),
    /// Somebody wants this process to end.
    Signal(i32),
}
