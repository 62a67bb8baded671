//! Device registers, reached with exactly the access that is asked for, whatever becomes of it.

use core::arch::asm;

/// Widths of an access in bytes.
pub const WIDTHS: [u64; 4] = [1, 2, 4, 8];

/// One load or store, after which the vCPU goes on even where it is an abort (`take_exception` in start.s).
macro_rules! access {
    ($instruction:literal, $address:ident, $value:ident) => {
        asm!(
            "adr {next}, 2f",
            "msr tpidr_el1, {next}",
            $instruction,
            "2: msr tpidr_el1, xzr",
            next = out(reg) _,
            address = in(reg) $address,
            value = inout(reg) $value,
            out("x0") _, out("x1") _, out("x2") _, out("x3") _,
            options(nostack),
        )
    };
}

/// Reads `width` bytes; 0 where nothing answers.
///
/// # Safety
/// `address` is that of device memory, aligned to `width`, and reading it changes nothing that Rust knows of.
pub unsafe fn read(address: u64, width: u64) -> u64 {
    let mut value = 0_u64;
    // SAFETY: the caller's promise. Compilers may choose instructions that a hypervisor cannot decode; these can be.
    unsafe {
        match width {
            1 => access!("ldrb {value:w}, [{address}]", address, value),
            2 => access!("ldrh {value:w}, [{address}]", address, value),
            4 => access!("ldr {value:w}, [{address}]", address, value),
            _ => access!("ldr {value}, [{address}]", address, value),
        }
    }
    value
}

/// Writes the low `width` bytes of `value`.
///
/// # Safety
/// As for [`read`]; and whatever the device does with the value, it does to nothing that Rust knows of.
pub unsafe fn write(address: u64, width: u64, value: u64) {
    let mut value = value;
    // SAFETY: as above.
    unsafe {
        match width {
            1 => access!("strb {value:w}, [{address}]", address, value),
            2 => access!("strh {value:w}, [{address}]", address, value),
            4 => access!("str {value:w}, [{address}]", address, value),
            _ => access!("str {value}, [{address}]", address, value),
        }
    }
    // A store gives nothing back.
    let _ = value;
}
