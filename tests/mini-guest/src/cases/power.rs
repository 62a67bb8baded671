//! How a guest ends.

use crate::smccc::psci;
use crate::{arch, say};

/// Nothing to do: switching off is what follows every case.
pub fn power_off() {}

/// Asks for a reset. RAM is loaded anew by then, so only the host can tell the first boot from the second.
pub fn reboot() -> ! {
    say!("done reboot");
    psci::system_reset()
}

/// Never ends by itself, so that the host can look at what `case` has left behind.
pub fn stay(case: &str) -> ! {
    say!("done {case}");
    loop {
        arch::wait_for_interrupt();
    }
}
