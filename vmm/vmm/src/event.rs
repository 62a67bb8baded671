//! What vCPU threads report to the thread that owns the VM.

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
}
