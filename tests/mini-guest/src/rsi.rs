//! The Realm Services Interface (Arm DEN 0137), as a guest calls it.

use crate::arch::PAGE_SIZE;
use crate::smccc::{self, Registers};

pub const VERSION: u64 = 0xC400_0190;
pub const FEATURES: u64 = 0xC400_0191;
pub const MEASUREMENT_READ: u64 = 0xC400_0192;
pub const MEASUREMENT_EXTEND: u64 = 0xC400_0193;
pub const TOKEN_INIT: u64 = 0xC400_0194;
pub const TOKEN_CONTINUE: u64 = 0xC400_0195;
pub const REALM_CONFIG: u64 = 0xC400_0196;
pub const IPA_STATE_SET: u64 = 0xC400_0197;
pub const IPA_STATE_GET: u64 = 0xC400_0198;
pub const HOST_CALL: u64 = 0xC400_0199;

pub const SUCCESS: u64 = 0;
pub const ERROR_INPUT: u64 = 1;
pub const ERROR_STATE: u64 = 2;
pub const INCOMPLETE: u64 = 3;
pub const NOT_SUPPORTED: u64 = u64::MAX;

pub const VERSION_1_0: u64 = 0x1_0000;

pub const RIPAS_EMPTY: u64 = 0;
pub const RIPAS_RAM: u64 = 1;
pub const RIPAS_DEV: u64 = 3;

/// One granule that can be handed to the interface.
#[repr(C, align(4096))]
pub struct Page(pub [u8; PAGE_SIZE]);

/// Calls `function`; registers that are no argument hold a pattern, so that [`changed`] can tell what was written.
pub fn call(function: u64, arguments: &[u64]) -> Registers {
    smccc::call(registers(function, arguments))
}

/// The registers with which [`call`] makes the call.
pub fn registers(function: u64, arguments: &[u64]) -> Registers {
    let mut registers = core::array::from_fn(|i| 0xA5A5_0000_5A5A_0000 | i as u64);
    registers[0] = function;
    registers[1..=arguments.len()].copy_from_slice(arguments);
    registers
}

/// A mask with one bit for each of x0 to x17 that the call changed.
pub fn changed(before: &Registers, after: &Registers) -> u64 {
    (0..18).filter(|&i| before[i] != after[i]).fold(0, |mask, i| mask | 1 << i)
}

/// What a Realm is told about itself.
pub struct Realm {
    /// Width of the address space in bits.
    pub ipa_width: u64,
    /// Number of the hash algorithm: 0 SHA-256, 1 SHA-512, 2 SHA-384.
    pub hash: u8,
}

impl Realm {
    /// Asks whether this is a Realm, as Linux does.
    pub fn detect() -> Option<Self> {
        if !smccc::is_smc() || call(VERSION, &[VERSION_1_0])[0] != SUCCESS {
            return None;
        }
        static mut CONFIG: Page = Page([0; PAGE_SIZE]);
        let page = &raw mut CONFIG;
        if call(REALM_CONFIG, &[page as u64])[0] != SUCCESS {
            return None;
        }
        // SAFETY: only the boot vCPU calls this, once, and the call that wrote the page is over.
        let Page(bytes) = unsafe { page.read_volatile() };
        let (ipa_width, _) = bytes.split_first_chunk()?;
        Some(Self { ipa_width: u64::from_le_bytes(*ipa_width), hash: bytes[8] })
    }

    /// The address bit that selects the shared half.
    pub fn shared_bit(&self) -> u64 {
        1 << (self.ipa_width - 1)
    }

    /// Length of a measurement in bytes.
    pub fn hash_len(&self) -> usize {
        match self.hash {
            0 => 32,
            2 => 48,
            _ => 64,
        }
    }
}

/// Sets the RIPAS of `base..top`, as often as the interface wants to be asked; the first status that is not success.
pub fn set_ripas(base: u64, top: u64, ripas: u64) -> u64 {
    let mut next = base;
    while next < top {
        let result = call(IPA_STATE_SET, &[next, top, ripas, 0]);
        if result[0] != SUCCESS {
            return result[0];
        }
        if result[1] <= next || result[2] != 0 {
            return ERROR_STATE;
        }
        next = result[1];
    }
    SUCCESS
}

/// Reads a measurement register: 0 is the RIM, 1 to 4 the REMs.
pub fn measurement(index: u64) -> [u8; 64] {
    let result = call(MEASUREMENT_READ, &[index]);
    let mut bytes = [0; 64];
    for (chunk, register) in bytes.chunks_exact_mut(8).zip(&result[1..9]) {
        chunk.copy_from_slice(&register.to_le_bytes());
    }
    bytes
}

/// Extends a measurement register with up to 64 bytes; returns the registers before and after.
pub fn extend(index: u64, data: &[u8]) -> (Registers, Registers) {
    let mut padded = [0; 64];
    padded[..data.len()].copy_from_slice(data);
    let mut arguments = [0; 10];
    arguments[0] = index;
    arguments[1] = data.len() as u64;
    arguments[2..].copy_from_slice(&words(&padded));
    let before = registers(MEASUREMENT_EXTEND, &arguments);
    (before, smccc::call(before))
}

/// 64 bytes as eight registers, little-endian.
pub fn words(bytes: &[u8; 64]) -> [u64; 8] {
    let (chunks, _) = bytes.as_chunks();
    core::array::from_fn(|i| u64::from_le_bytes(chunks[i]))
}
