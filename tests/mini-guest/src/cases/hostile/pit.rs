//! Memory that devices may do anything to: the upper half of RAM.

use crate::board::Board;
use crate::random::Random;
use crate::rsi::{self, Realm};

const PAGE_SHIFT: u64 = 12;

/// What the guest must not lose, in front of the pit.
pub struct Pit {
    ram: (u64, u64),
    base: u64,
    end: u64,
    shared_bit: u64,
}

impl Pit {
    /// Fills it with garbage. A Realm shares the first half of it.
    pub fn dig(board: &Board, realm: Option<&Realm>, random: &mut Random) -> Self {
        let (start, end) = board.ram;
        let base = start + (end - start) / 2;
        let pit = Self { ram: board.ram, base, end, shared_bit: realm.map_or(0, Realm::shared_bit) };
        if realm.is_some() {
            rsi::set_ripas(base, base + (end - base) / 2, rsi::RIPAS_EMPTY);
        }
        for address in (base..pit.own_end()).step_by(4) {
            pit.write(address | pit.shared_bit, 4, u64::from(pit.word(random)));
        }
        pit
    }

    /// End of the part that can be reached at its address with the shared bit.
    fn own_end(&self) -> u64 {
        if self.shared_bit == 0 { self.end } else { self.base + (self.end - self.base) / 2 }
    }

    /// A word that names no page of this guest: a balloon would take it away.
    fn word(&self, random: &mut Random) -> u32 {
        let word = random.next() as u32;
        let pages = self.ram.0 >> PAGE_SHIFT..self.base >> PAGE_SHIFT;
        if pages.contains(&word.into()) { word | 1 << 31 } else { word }
    }

    /// A value of which no half, written to a register by itself, is an address in front of the pit.
    pub fn harmless(&self, value: u64) -> u64 {
        let own = self.ram.0..self.base;
        let half = |half: u64| if own.contains(&half) { half | 1 << 31 } else { half };
        half(value >> 32) << 32 | half(value & 0xffff_ffff)
    }

    /// A piece of `size` bytes at a multiple of `align`, which devices can reach.
    pub fn piece(&self, size: u64, align: u64, random: &mut Random) -> u64 {
        let places = (self.own_end() - self.base - size) / align;
        (self.base + random.below(places) * align) | self.shared_bit
    }

    /// Mostly an address that devices can reach; else one at which there is nothing, or a device, or private memory.
    pub fn address(&self, random: &mut Random) -> u64 {
        match random.below(12) {
            0 => self.harmless(random.next()),
            1 => u64::MAX - random.below(64),
            2 => (self.end | self.shared_bit) - random.below(16) * 4,
            3 => self.end + random.below(1 << 20),
            // The board's registers.
            4 => (0x0800_0000 + random.below(1 << 24)) | self.shared_bit,
            // In a Realm private, elsewhere nothing special.
            5 => self.own_end().min(self.end - 4096) + random.below(1024) * 4,
            _ => self.piece(4096, 4, random),
        }
    }

    /// Writes the low `width` bytes of `value` to memory of the pit; elsewhere nothing happens.
    pub fn write(&self, address: u64, width: u64, value: u64) {
        let plain = address & !self.shared_bit;
        if plain < self.base || plain.checked_add(width).is_none_or(|end| end > self.own_end()) {
            return;
        }
        // SAFETY: memory that nothing else uses, mapped at this address, and aligned where it is not written by bytes.
        unsafe {
            match (width, address % width) {
                (2, 0) => (address as *mut u16).write_volatile(value as u16),
                (4, 0) => (address as *mut u32).write_volatile(value as u32),
                (8, 0) => (address as *mut u64).write_volatile(value),
                _ => {
                    for (index, byte) in value.to_le_bytes().into_iter().take(width as usize).enumerate() {
                        (address as *mut u8).add(index).write_volatile(byte);
                    }
                }
            }
        }
    }
}
