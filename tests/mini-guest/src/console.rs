//! The serial console: a PL011 whose line nobody has to set up, because the other side is a VMM.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const FLAG_TRANSMIT_FULL: u32 = 1 << 5;

/// Until the device tree is read, the address of the board this guest is linked for.
static BASE: AtomicUsize = AtomicUsize::new(0x0900_0000);
static BUSY: AtomicBool = AtomicBool::new(false);

/// Uses the PL011 at `base` from now on.
pub fn set_base(base: u64) {
    BASE.store(base as usize, Ordering::Relaxed);
}

/// Where the PL011 is.
pub fn base() -> u64 {
    BASE.load(Ordering::Relaxed) as u64
}

/// Prints one line; lines of several vCPUs do not mix.
pub fn print_line(line: fmt::Arguments<'_>) {
    while BUSY.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    print_line_unlocked(line);
    BUSY.store(false, Ordering::Release);
}

/// As [`print_line`], for a vCPU that died and perhaps holds the lock.
pub fn print_line_unlocked(line: fmt::Arguments<'_>) {
    // The writer never fails.
    let _ = Pl011.write_fmt(line);
    let _ = Pl011.write_str("\r\n");
}

struct Pl011;

impl Write for Pl011 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let base = BASE.load(Ordering::Relaxed);
        for byte in text.bytes() {
            // SAFETY: `base` is the PL011's register block, mapped as device memory, and these are its registers.
            unsafe {
                while ((base + FLAGS) as *const u32).read_volatile() & FLAG_TRANSMIT_FULL != 0 {}
                ((base + DATA) as *mut u32).write_volatile(byte.into());
            }
        }
        Ok(())
    }
}

/// Bytes as hexadecimal text.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Prints one line to the serial console.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::console::print_line(format_args!($($part)*)) };
}
