//! What a boot of the VM reports to the thread that owns the VM.

use crate::Error;

/// Something that happened in a boot of the VM. Most end it.
#[derive(Debug)]
pub enum Event {
    /// The guest powered itself off.
    Off,
    /// The guest asked for a reset.
    Reset,
    /// The guest reported its own crash.
    Crash,
    /// The guest did not start its watchdog over in time.
    Watchdog,
    /// The guest let the device of that name go; the boot goes on.
    Ejected(String),
    /// The VM cannot go on.
    Failed(Error),
}
