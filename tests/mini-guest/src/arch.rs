//! The processor: identity, time, and the second half of the address map.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

global_asm!(include_str!("start.s"));

/// The granule of the Realm Services Interface.
pub const PAGE_SIZE: usize = 4096;

/// How many GiB from address 0 are mapped; as many are mapped again in the shared half.
const MAPPED_GIB: usize = 5;
const TABLE: u64 = 3;

unsafe extern "C" {
    safe static mmu_level0: [AtomicU64; 512];
    safe static mmu_level1: [AtomicU64; 512];
    safe static mmu_level1_alias: [AtomicU64; 512];
    safe fn secondary_entry(number: u64) -> !;
    fn probe_load_pair(address: u64) -> u64;
    fn probe_store_pair(address: u64) -> u64;
    fn probe_load_vector(address: u64) -> u64;
    fn probe_load_and_advance(address: u64) -> u64;
}

/// An access that says nothing of itself when it aborts: given an address, it returns the abort's ESR, or zero.
pub type Probe = unsafe extern "C" fn(address: u64) -> u64;

/// Accesses with several registers, with a vector register, and with writeback, by name.
pub const PROBES: [(&str, Probe); 4] = [
    ("load-pair", probe_load_pair),
    ("store-pair", probe_store_pair),
    ("load-vector", probe_load_vector),
    ("load-and-advance", probe_load_and_advance),
];

/// Where a vCPU that PSCI starts has to begin.
pub fn secondary_entry_address() -> u64 {
    secondary_entry as *const () as u64
}

/// Maps the devices and RAM a second time, at their address with `shared_bit` set.
pub fn map_shared_half(shared_bit: u64) {
    let level0 = (shared_bit >> 39) as usize;
    let first = (shared_bit >> 30) as usize % 512;
    let table = if level0 == 0 { &mmu_level1 } else { &mmu_level1_alias };
    for gib in 0..MAPPED_GIB {
        let block = mmu_level1[gib].load(Ordering::Relaxed) | shared_bit;
        table[first + gib].store(block, Ordering::Relaxed);
    }
    if level0 != 0 {
        mmu_level0[level0].store(mmu_level1_alias.as_ptr() as u64 | TABLE, Ordering::Relaxed);
    }
    // SAFETY: only orders the stores above before later address translations; the entries were invalid before.
    unsafe { asm!("dsb ishst", "isb", options(nostack)) };
}

/// The affinity of the running vCPU, as PSCI and the device tree write it.
pub fn affinity() -> u64 {
    let mpidr: u64;
    // SAFETY: reading this register has no effect.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack)) };
    mpidr & 0xff_00ff_ffff
}

/// Runs `done` until it says true or `seconds` have passed; false when time ran out.
pub fn wait_until(seconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let frequency: u64;
    // SAFETY: reading this register has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack)) };
    let start = ticks();
    while !done() {
        if ticks().wrapping_sub(start) > seconds * frequency {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reading this register has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Sleeps until an interrupt or for ever: nothing here enables one.
pub fn wait_for_interrupt() {
    // SAFETY: waiting changes nothing.
    unsafe { asm!("wfi", options(nomem, nostack)) };
}
