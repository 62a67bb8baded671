//! Calls to what runs below the guest: the SMC Calling Convention, and PSCI on top of it.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Registers x0 to x17: the function and its arguments, then the results.
pub type Registers = [u64; 18];

/// Which instruction reaches the firmware; the device tree says so.
static CONDUIT_IS_SMC: AtomicBool = AtomicBool::new(false);

/// Uses SMC instead of HVC.
pub fn use_smc(smc: bool) {
    CONDUIT_IS_SMC.store(smc, Ordering::Relaxed);
}

/// Whether calls go through SMC; only then may there be a Realm Services Interface.
pub fn is_smc() -> bool {
    CONDUIT_IS_SMC.load(Ordering::Relaxed)
}

macro_rules! call_with {
    ($instruction:literal, $r:ident) => {
        // SAFETY: every register that the convention lets the callee change is an operand, and memory counts as
        // changed. What a call does to memory is the caller's choice of arguments: all buffers here are static.
        unsafe {
            asm!($instruction,
                inout("x0") $r[0], inout("x1") $r[1], inout("x2") $r[2], inout("x3") $r[3],
                inout("x4") $r[4], inout("x5") $r[5], inout("x6") $r[6], inout("x7") $r[7],
                inout("x8") $r[8], inout("x9") $r[9], inout("x10") $r[10], inout("x11") $r[11],
                inout("x12") $r[12], inout("x13") $r[13], inout("x14") $r[14], inout("x15") $r[15],
                inout("x16") $r[16], inout("x17") $r[17], options(nostack))
        }
    };
}

/// Makes the call with exactly these registers and returns what they hold afterwards.
pub fn call(mut registers: Registers) -> Registers {
    let r = &mut registers;
    if is_smc() {
        call_with!("smc #0", r);
    } else {
        call_with!("hvc #0", r);
    }
    registers
}

/// PSCI (Arm DEN 0022), the few functions a guest needs.
pub mod psci {
    use super::call;

    /// The vCPU runs already.
    pub const ALREADY_ON: i64 = -4;

    /// Starts the vCPU with this affinity at `entry`; `context` arrives in its x0. Zero on success.
    pub fn cpu_on(affinity: u64, entry: u64, context: u64) -> i64 {
        invoke(0xC400_0003, [affinity, entry, context])
    }

    /// Stops the calling vCPU.
    pub fn cpu_off() -> ! {
        invoke(0x8400_0002, [0; 3]);
        stop()
    }

    /// Switches the machine off.
    pub fn system_off() -> ! {
        invoke(0x8400_0008, [0; 3]);
        stop()
    }

    /// Starts the machine anew.
    pub fn system_reset() -> ! {
        invoke(0x8400_0009, [0; 3]);
        stop()
    }

    fn invoke(function: u64, arguments: [u64; 3]) -> i64 {
        let mut registers = [0; 18];
        registers[0] = function;
        registers[1..4].copy_from_slice(&arguments);
        // Results of the 32-bit functions have 32 significant bits.
        let result = call(registers)[0];
        if function & 0x4000_0000 == 0 { i64::from(result as i32) } else { result as i64 }
    }

    fn stop() -> ! {
        loop {
            crate::arch::wait_for_interrupt();
        }
    }
}
