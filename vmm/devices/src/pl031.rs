//! PL031 real-time clock (Arm DDI 0224).
//!
//! The match register is kept but never compared: the board advertises no interrupt for the clock, and without one
//! Linux and EDK2 use it to read and set the time only.

use std::sync::{Mutex, PoisonError};

use crate::bus::{MmioDevice, fill, value32};

const DATA: u64 = 0x00;
const MATCH: u64 = 0x04;
const LOAD: u64 = 0x08;
const CONTROL: u64 = 0x0c;
const INTERRUPT_MASK: u64 = 0x10;
const ID: u64 = 0xfe0;
/// PeriphID0-3 and PCellID0-3, one byte per register.
const ID_BYTES: [u8; 8] = [0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// A clock that counts seconds from what the guest loads, at first from the host's time.
pub struct Pl031 {
    clock: Box<dyn Fn() -> u32 + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Guest time minus host time, wrapping.
    offset: u32,
    matched: u32,
    load: u32,
    interrupt_mask: u32,
}

impl Pl031 {
    /// `clock` gives the host's time in seconds since 1970 (UTC), modulo 2^32.
    pub fn new(clock: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), state: Mutex::default() }
    }
}

impl MmioDevice for Pl031 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let value = match offset {
            DATA => (self.clock)().wrapping_add(state.offset),
            MATCH => state.matched,
            LOAD => state.load,
            CONTROL => 1, // always counting
            INTERRUPT_MASK => state.interrupt_mask,
            ID.. => id_byte(&ID_BYTES, offset),
            _ => 0,
        };
        fill(data, u64::from(value));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match offset {
            MATCH => state.matched = value32(data),
            LOAD => {
                state.load = value32(data);
                state.offset = state.load.wrapping_sub((self.clock)());
            }
            INTERRUPT_MASK => state.interrupt_mask = value32(data) & 1,
            _ => {}
        }
    }
}

/// The identification register at `offset` of a PrimeCell: a byte in every fourth address from 0xfe0.
pub(crate) fn id_byte(bytes: &[u8; 8], offset: u64) -> u32 {
    let index =
        offset.checked_sub(ID).filter(|at| at.is_multiple_of(4)).and_then(|at| usize::try_from(at / 4).ok());
    index.and_then(|index| bytes.get(index)).map_or(0, |&byte| u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn clock_at(time: u32) -> (Pl031, Arc<AtomicU32>) {
        let now = Arc::new(AtomicU32::new(time));
        let shared = now.clone();
        (Pl031::new(move || shared.load(Ordering::Relaxed)), now)
    }

    fn read(rtc: &Pl031, offset: u64) -> u32 {
        let mut data = [0; 4];
        rtc.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn shows_the_time_of_the_host() {
        let (rtc, now) = clock_at(1_700_000_000);
        assert_eq!(read(&rtc, DATA), 1_700_000_000);
        now.store(1_700_000_042, Ordering::Relaxed);
        assert_eq!(read(&rtc, DATA), 1_700_000_042);
    }

    #[test]
    fn counts_on_from_the_time_that_the_guest_sets() {
        for start in [0, 5, u32::MAX] {
            let (rtc, now) = clock_at(1000);
            rtc.write(LOAD, &start.to_le_bytes());
            now.store(1007, Ordering::Relaxed);
            assert_eq!(read(&rtc, DATA), start.wrapping_add(7));
            assert_eq!(read(&rtc, LOAD), start);
        }
    }

    #[test]
    fn identifies_itself() {
        let (rtc, _) = clock_at(0);
        let ids: Vec<u32> = (0..8).map(|index| read(&rtc, 0xfe0 + 4 * index)).collect();
        assert_eq!(ids, [0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
        assert_eq!(read(&rtc, 0x1000), 0);
    }
}
