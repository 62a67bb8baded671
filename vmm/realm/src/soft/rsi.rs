//! The Realm Services Interface: function identifiers, argument checks and return codes (RMM 1.0, chapter "RSI").
//!
//! A call that the specification refuses must be refused here too, with the same code: this back-end is where guests
//! meet the rules before they meet hardware.

use std::ops::Range;

use evidence::hash::Digest;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::measurements::Measurements;
use super::ripas::{GRANULE, GRANULE_LEN, Ripas, RipasMap};
use super::token::{Mint, TokenSession};
use crate::{Error, Registers};

/// Function identifiers that belong to RSI 1.0 and 1.1 (SMC64, standard secure service).
pub const FUNCTIONS: Range<u32> = 0xC400_0190..0xC400_01B0;

const VERSION: u32 = 0xC400_0190;
const FEATURES: u32 = 0xC400_0191;
const MEASUREMENT_READ: u32 = 0xC400_0192;
const MEASUREMENT_EXTEND: u32 = 0xC400_0193;
const ATTESTATION_TOKEN_INIT: u32 = 0xC400_0194;
const ATTESTATION_TOKEN_CONTINUE: u32 = 0xC400_0195;
const REALM_CONFIG: u32 = 0xC400_0196;
const IPA_STATE_SET: u32 = 0xC400_0197;
const IPA_STATE_GET: u32 = 0xC400_0198;
const HOST_CALL: u32 = 0xC400_0199;

/// Interface version 1.0, the one that this RMM speaks.
const VERSION_1_0: u64 = 0x1_0000;

/// SMCCC's answer to a function that does not exist.
pub const NOT_SUPPORTED: u64 = u64::MAX;

/// Status that a call returns in x0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Status {
    Success = 0,
    ErrorInput = 1,
    ErrorState = 2,
    Incomplete = 3,
    ErrorUnknown = 4,
}

/// A status, or a failure of the host that ends the VM.
type Outcome = Result<Status, Error>;

/// What the guest's call acts on.
pub struct Realm<'a> {
    pub ipa_bits: u8,
    pub config: &'a ConfigPage,
    pub memory: &'a GuestMemoryMmap,
    pub ripas: &'a RipasMap,
    pub measurements: &'a mut Measurements,
    /// Token generation of the calling vCPU: as in an RMM it belongs to the REC.
    pub session: &'a mut TokenSession,
    pub mint: &'a Mint,
}

/// What `RSI_REALM_CONFIG` tells the guest.
#[derive(Clone, Debug)]
pub struct ConfigPage {
    /// Value of the hash algorithm field: SHA-256 is 0, SHA-512 is 1.
    pub hash_algorithm: u8,
    /// Realm personalisation value.
    pub rpv: [u8; 64],
}

impl Realm<'_> {
    /// Serves one call whose arguments are in `registers`; leaves registers that are no result alone.
    pub fn call(&mut self, function: u32, registers: &mut dyn Registers) -> Result<(), Error> {
        let status = match function {
            VERSION => version(registers)?,
            FEATURES => features(registers)?,
            MEASUREMENT_READ => self.measurement_read(registers)?,
            MEASUREMENT_EXTEND => self.measurement_extend(registers)?,
            ATTESTATION_TOKEN_INIT => self.token_init(registers)?,
            ATTESTATION_TOKEN_CONTINUE => self.token_continue(registers)?,
            REALM_CONFIG => self.realm_config(registers)?,
            IPA_STATE_SET => self.ipa_state_set(registers)?,
            IPA_STATE_GET => self.ipa_state_get(registers)?,
            HOST_CALL => self.host_call(registers)?,
            _ => return registers.set(0, NOT_SUPPORTED),
        };
        tracing::trace!(function = format_args!("{function:#x}"), ?status, "RSI call");
        registers.set(0, status as u64)
    }

    fn measurement_read(&mut self, registers: &mut dyn Registers) -> Outcome {
        let Some(value) = self.measurements.read(registers.get(1)?) else { return Ok(Status::ErrorInput) };
        for (register, word) in (1..).zip(words(&value)) {
            registers.set(register, word)?;
        }
        Ok(Status::Success)
    }

    fn measurement_extend(&mut self, registers: &mut dyn Registers) -> Outcome {
        let index = registers.get(1)?;
        let mut data = [0; 64];
        for (register, chunk) in (3..).zip(data.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&registers.get(register)?.to_le_bytes());
        }
        let Some(data) = usize::try_from(registers.get(2)?).ok().and_then(|size| data.get(..size)) else {
            return Ok(Status::ErrorInput);
        };
        Ok(if self.measurements.extend(index, data) { Status::Success } else { Status::ErrorInput })
    }

    fn token_init(&mut self, registers: &mut dyn Registers) -> Outcome {
        let mut challenge = [0; 64];
        for (register, chunk) in (1..).zip(challenge.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&registers.get(register)?.to_le_bytes());
        }
        self.session.start(challenge);
        registers.set(1, self.mint.limit() as u64)?;
        Ok(Status::Success)
    }

    fn token_continue(&mut self, registers: &mut dyn Registers) -> Outcome {
        let (granule, offset, size) = (registers.get(1)?, registers.get(2)?, registers.get(3)?);
        let fits = offset < GRANULE && offset.checked_add(size).is_some_and(|end| end <= GRANULE);
        if !fits || !self.is_private_granule(granule) {
            return Ok(Status::ErrorInput);
        }
        let Some(remaining) =
            self.session.remaining(|challenge| self.mint.token(challenge, self.measurements))?
        else {
            return Ok(Status::ErrorState);
        };
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(remaining.len());
        let (chunk, rest) = remaining.split_at(len);
        if self.memory.write_slice(chunk, GuestAddress(granule + offset)).is_err() {
            return Ok(Status::ErrorUnknown);
        }
        let done = rest.is_empty();
        self.session.advance(len);
        registers.set(1, len as u64)?;
        Ok(if done { Status::Success } else { Status::Incomplete })
    }

    fn realm_config(&mut self, registers: &mut dyn Registers) -> Outcome {
        const HASH_ALGORITHM: usize = 8;
        const RPV: usize = 0x200;
        let granule = registers.get(1)?;
        if !self.is_private_granule(granule) {
            return Ok(Status::ErrorInput);
        }
        let mut page = [0; GRANULE_LEN];
        page[0] = self.ipa_bits;
        page[HASH_ALGORITHM] = self.config.hash_algorithm;
        page[RPV..RPV + 64].copy_from_slice(&self.config.rpv);
        Ok(match self.memory.write_slice(&page, GuestAddress(granule)) {
            Ok(()) => Status::Success,
            Err(_) => Status::ErrorUnknown,
        })
    }

    fn ipa_state_set(&mut self, registers: &mut dyn Registers) -> Outcome {
        /// At most this far in one call, as an RMM stops at the end of a translation table: guests must loop.
        const STRIDE: u64 = 1 << 30;
        const ACCEPT: u64 = 0;
        const REJECT: u64 = 1;
        let (base, top) = (registers.get(1)?, registers.get(2)?);
        let state = match registers.get(3)? {
            0 => Ripas::Empty,
            1 => Ripas::Ram,
            _ => return Ok(Status::ErrorInput),
        };
        if !self.is_protected_range(base, top) {
            return Ok(Status::ErrorInput);
        }
        let stop = top.min((base & !(STRIDE - 1)).saturating_add(STRIDE));
        let reached = match (self.ripas.backed_until(base), state) {
            (Some(end), _) => stop.min(end),
            (None, Ripas::Empty) => stop,
            // No memory to give: what a host that cannot find a page does.
            (None, Ripas::Ram) => base,
        };
        // Neither direction preserves content: a guest that relies on it fails here and not on hardware.
        let mut failed = false;
        self.ripas.set(base, reached, state, |page| {
            failed |= self.memory.write_slice(&[0; GRANULE_LEN], GuestAddress(page)).is_err();
        });
        if failed {
            return Ok(Status::ErrorUnknown);
        }
        registers.set(1, reached)?;
        registers.set(2, if reached > base { ACCEPT } else { REJECT })?;
        Ok(Status::Success)
    }

    fn ipa_state_get(&mut self, registers: &mut dyn Registers) -> Outcome {
        let (base, end) = (registers.get(1)?, registers.get(2)?);
        if !self.is_protected_range(base, end) {
            return Ok(Status::ErrorInput);
        }
        let (top, state) = self.ripas.uniform(base, end);
        registers.set(1, top)?;
        registers.set(2, state as u64)?;
        Ok(Status::Success)
    }

    /// Answers as a host without services of its own: whatever the Realm asks for is not supported.
    fn host_call(&mut self, registers: &mut dyn Registers) -> Outcome {
        const ALIGNMENT: u64 = 256;
        const FIRST_REGISTER: u64 = 8;
        let address = registers.get(1)?;
        if !address.is_multiple_of(ALIGNMENT) || !self.is_private_granule(address & !(GRANULE - 1)) {
            return Ok(Status::ErrorInput);
        }
        Ok(match self.memory.write_obj(NOT_SUPPORTED, GuestAddress(address + FIRST_REGISTER)) {
            Ok(()) => Status::Success,
            Err(_) => Status::ErrorUnknown,
        })
    }

    /// Whether `address` is a granule of the protected half that holds private memory.
    fn is_private_granule(&self, address: u64) -> bool {
        address.is_multiple_of(GRANULE) && self.ripas.get(address) == Ripas::Ram
    }

    fn is_protected_range(&self, base: u64, top: u64) -> bool {
        base.is_multiple_of(GRANULE)
            && top.is_multiple_of(GRANULE)
            && base < top
            && top <= 1 << (self.ipa_bits - 1)
    }
}

fn version(registers: &mut dyn Registers) -> Outcome {
    let requested = registers.get(1)?;
    registers.set(1, VERSION_1_0)?;
    registers.set(2, VERSION_1_0)?;
    Ok(if requested == VERSION_1_0 { Status::Success } else { Status::ErrorInput })
}

fn features(registers: &mut dyn Registers) -> Outcome {
    // RSI 1.0 defines no feature register; every index reads as zero.
    registers.set(1, 0)?;
    Ok(Status::Success)
}

/// The digest, zero padded to 64 bytes, as the eight registers that carry it.
fn words(digest: &Digest) -> Vec<u64> {
    digest.padded().as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}
