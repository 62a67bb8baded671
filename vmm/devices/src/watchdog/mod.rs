//! Watchdog of Intel's 6300ESB I/O controller hub (datasheet 300641, section 16), which QEMU and libvirt have made the
//! usual one of VMs: Linux and Windows bring a driver.
//!
//! It has two stages of a countdown that the guest starts over again and again. When the second has passed, the VM is
//! reset.

mod countdown;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::countdown::Watchdog;
use crate::pci::{Bar, ConfigSpace, Header, PciDevice};

/// What the datasheet calls the WDT configuration register.
const CONFIG: u16 = 0x60;
const CONFIG_FAST: u16 = 1 << 2;
const CONFIG_NO_RESET: u16 = 1 << 5;
const CONFIG_WRITABLE: u16 = 0b10_0111;
/// WDT lock register.
const LOCK: u16 = 0x68;
const LOCK_LOCKED: u8 = 1 << 0;
const LOCK_ENABLE: u8 = 1 << 1;
const LOCK_FREE_RUN: u8 = 1 << 2;

/// Registers of the BAR.
const PRELOAD_1: u64 = 0x00;
const PRELOAD_2: u64 = 0x04;
const RELOAD: u64 = 0x0c;
const PRELOAD_MASK: u32 = 0xf_ffff;
const RELOAD_NOW: u32 = 1 << 8;
const RELOAD_TIMED_OUT: u32 = 1 << 9;
/// Written to the reload register one after the other, they let one more write through.
const UNLOCK: [u32; 2] = [0x80, 0x86];

const BAR_SIZE: u64 = 0x1000;

/// Says that the watchdog has reset the VM, also to the guest that boots next.
pub type Fired = Arc<AtomicBool>;

fn config_space() -> ConfigSpace {
    // Class: base system peripheral, other.
    let header =
        Header { vendor: 0x8086, device: 0x25ab, revision: 0, class: 0x08_80_00, subsystem: 0x1100_1af4 };
    let mut config = ConfigSpace::new(&header);
    config.add_bar64(0, BAR_SIZE);
    config
}

impl PciDevice for Watchdog {
    fn read_config(&self, offset: u16, data: &mut [u8]) {
        let registers = self.registers();
        registers.config.read(offset, data);
        let own = |register: u16, value: &[u8], data: &mut [u8]| {
            for (at, byte) in (usize::from(offset)..).zip(data) {
                let index = at.checked_sub(usize::from(register));
                if let Some(&value) = index.and_then(|index| value.get(index)) {
                    *byte = value;
                }
            }
        };
        own(CONFIG, &registers.setup.to_le_bytes(), data);
        own(LOCK, &[registers.lock], data);
    }

    fn write_config(&self, offset: u16, data: &[u8]) {
        let mut registers = self.registers();
        match (offset, data) {
            (CONFIG, &[low, ..]) => registers.setup = u16::from(low) & CONFIG_WRITABLE,
            (LOCK, &[value, ..]) => {
                if registers.lock & LOCK_LOCKED == 0 {
                    let ran = registers.lock & LOCK_ENABLE != 0;
                    registers.lock = value & (LOCK_LOCKED | LOCK_ENABLE | LOCK_FREE_RUN);
                    match (ran, value & LOCK_ENABLE != 0) {
                        (false, true) => registers.start(),
                        (true, false) => registers.stop(),
                        _ => {}
                    }
                    self.changed();
                }
            }
            _ => registers.config.write(offset, data),
        }
    }

    fn bars(&self) -> Vec<Bar> {
        self.registers().config.bars()
    }

    fn bar_moved(&self, _index: u8, _base: Option<u64>) {}

    fn read_bar(&self, _index: u8, offset: u64, data: &mut [u8]) {
        let timed_out = offset == RELOAD && self.fired().load(Ordering::Relaxed);
        crate::bus::fill(data, u64::from(if timed_out { RELOAD_TIMED_OUT } else { 0 }));
    }

    fn write_bar(&self, _index: u8, offset: u64, data: &[u8]) {
        let value = crate::bus::value32(data);
        let mut registers = self.registers();
        if offset == RELOAD && UNLOCK.get(usize::from(registers.unlocked)) == Some(&value) {
            registers.unlocked += 1;
            return;
        }
        let unlocked = usize::from(registers.unlocked) == UNLOCK.len();
        registers.unlocked = 0;
        if !unlocked {
            return;
        }
        match offset {
            PRELOAD_1 => registers.preload = [value & PRELOAD_MASK, registers.preload[1]],
            PRELOAD_2 => registers.preload = [registers.preload[0], value & PRELOAD_MASK],
            RELOAD => {
                if value & RELOAD_NOW != 0 && registers.lock & LOCK_ENABLE != 0 {
                    registers.start();
                    self.changed();
                }
                if value & RELOAD_TIMED_OUT != 0 {
                    self.fired().store(false, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
