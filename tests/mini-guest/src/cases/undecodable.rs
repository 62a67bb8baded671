//! Accesses to devices that no hypervisor can decode: each is an abort for this guest, which goes on.

use crate::arch::{self, PROBES};
use crate::board::Board;
use crate::report::{check, check_that};
use crate::rsi::Realm;
use crate::say;

/// ESR_EL1 (Arm DDI 0487): the class of data aborts without a change of exception level, and the fault status of a
/// synchronous external abort.
const CLASS_SHIFT: u64 = 26;
const CLASS_DATA_ABORT: u64 = 0x25;
const STATUS_MASK: u64 = 0x3f;
const STATUS_EXTERNAL: u64 = 0x10;

pub fn run(board: &Board, realm: Option<&Realm>) {
    let shared_bit = realm.map_or(0, Realm::shared_bit);
    let clock = board.clock | shared_bit;
    for (name, probe) in PROBES {
        // SAFETY: the clock's registers are mapped as device memory; what they hold does not matter.
        let esr = unsafe { probe(clock) };
        check(format_args!("{name}-is-a-data-abort"), esr >> CLASS_SHIFT, CLASS_DATA_ABORT);
        check(format_args!("{name}-is-external"), esr & STATUS_MASK, STATUS_EXTERNAL);
    }
    // SAFETY: as above, and this register only tells the time.
    let seconds = || unsafe { (clock as *const u32).read_volatile() };
    let before = seconds();
    check_that("clock-tells-the-time", before > 0, before, "seconds since 1970");
    check_that("clock-goes-on", arch::wait_until(10, || seconds() > before), before, "a later second");
    say!("probes {}", PROBES.len());
}
