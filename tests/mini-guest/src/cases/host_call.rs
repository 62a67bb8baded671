//! `RSI_HOST_CALL`: the guest hands the host a structure and gets it back.

use crate::report::{check, check_that};
use crate::rsi::{self, ERROR_INPUT, HOST_CALL, NOT_SUPPORTED, Realm, SUCCESS};
use crate::{console, say};

/// `RsiHostCall`: 31 registers behind an immediate, in 256 bytes.
#[repr(C, align(256))]
struct HostCall {
    immediate: u64,
    registers: [u64; 31],
}

static mut STRUCTURE: HostCall = HostCall { immediate: 0, registers: [0; 31] };

pub fn run(realm: &Realm) {
    let address = &raw mut STRUCTURE;
    let sent: [u64; 31] = core::array::from_fn(|i| 0x100 + i as u64);
    // SAFETY: only the boot vCPU runs, and nothing else refers to the structure.
    unsafe { address.write_volatile(HostCall { immediate: 0x5a, registers: sent }) };
    let before = rsi::registers(HOST_CALL, &[address as u64]);
    let after = crate::smccc::call(before);
    check("host-call-keeps-registers", rsi::changed(&before, &after) & !1, 0);
    if after[0] == NOT_SUPPORTED {
        say!("host-call unsupported");
        return;
    }
    check("host-call", after[0], SUCCESS);
    // SAFETY: the call is over; the structure is plain memory.
    let answer = unsafe { address.read_volatile() };
    check("host-call-immediate", answer.immediate, 0x5a);
    say!("host-call x0 {:#x} x1 {:#x}", answer.registers[0], answer.registers[1]);
    for (name, bad) in [
        ("unaligned", address as u64 + 8),
        ("alias", address as u64 | realm.shared_bit()),
        ("device", console::base() & !realm.shared_bit()),
    ] {
        let got = rsi::call(HOST_CALL, &[bad])[0];
        check_that(format_args!("host-call-{name}"), got == ERROR_INPUT, got, "ERROR_INPUT");
    }
}
