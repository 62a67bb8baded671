//! Every vCPU of the device tree can be started, and is the one that was asked for.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch;
use crate::board::Board;
use crate::report::{check, check_that};
use crate::say;
use crate::smccc::psci;

const SECONDS: u64 = 30;

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Starts all other vCPUs, one after the other, then all are counted.
pub fn run(board: &Board) {
    let boot = arch::affinity();
    check("boot-cpu-is-first", boot, board.cpus()[0]);
    check(
        "boot-cpu-is-on",
        psci::cpu_on(boot, arch::secondary_entry_address(), 0) as u64,
        psci::ALREADY_ON as u64,
    );
    let nobody = psci::cpu_on(0xff_00ff_ffff, arch::secondary_entry_address(), 0);
    check_that("unknown-cpu-is-refused", nobody < 0, nobody, "an error");
    for (number, &affinity) in board.cpus().iter().enumerate().skip(1) {
        let status = psci::cpu_on(affinity, arch::secondary_entry_address(), number as u64);
        check(format_args!("cpu-on-{number}"), status as u64, 0);
        let so_far = || STARTED.load(Ordering::Acquire) == number as u64;
        check_that(
            format_args!("cpu-runs-{number}"),
            arch::wait_until(SECONDS, so_far),
            affinity,
            "a running vCPU",
        );
    }
    check("cpus", STARTED.load(Ordering::Acquire) + 1, board.cpus().len() as u64);
}

/// What a started vCPU does.
pub fn secondary(number: u64) -> ! {
    say!("cpu {number} affinity {:#x}", arch::affinity());
    STARTED.fetch_add(1, Ordering::Release);
    psci::cpu_off()
}
