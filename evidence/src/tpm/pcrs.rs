//! Which registers a quote is about, and their values as they are reported beside it.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::TpmError;
use super::fields::Fields;
use crate::bank::{Bank, BankValue};

/// Registers that a selection can name. TPMs of PCs have 24.
const REGISTERS: u32 = 32;
/// Most banks in a selection (`HASH_COUNT` of large TPMs).
const MAX_BANKS: u32 = 16;
/// Most bytes of a bitmap.
const MAX_SELECT: u8 = 4;
/// Bytes of the bitmap that TPMs of PCs write (`PCR_SELECT_MIN`).
const MIN_SELECT: usize = 3;

/// A set of registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PcrSet(u32);

/// A register that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no PCR {found}; the highest is {}", REGISTERS - 1)]
pub struct PcrSetError {
    /// Its number.
    pub found: u32,
}

impl PcrSet {
    /// The registers with these numbers.
    ///
    /// # Errors
    /// A number above 31.
    pub fn new(registers: impl IntoIterator<Item = u32>) -> Result<Self, PcrSetError> {
        registers.into_iter().try_fold(Self::default(), |Self(set), found| {
            1_u32.checked_shl(found).map(|bit| Self(set | bit)).ok_or(PcrSetError { found })
        })
    }

    /// The numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..REGISTERS).filter(move |register| self.contains(*register))
    }

    /// Whether the register is one of them.
    #[must_use]
    pub fn contains(self, register: u32) -> bool {
        1_u32.checked_shl(register).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The numbers as `tpm2_quote -l` takes them, after the colon.
impl fmt::Display for PcrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, register) in self.iter().enumerate() {
            write!(f, "{}{register}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Registers of one bank (`TPMS_PCR_SELECTION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: Bank,
    /// Its registers.
    pub pcrs: PcrSet,
}

impl PcrSelection {
    /// Reads a `TPML_PCR_SELECTION`. A bank that is there twice is refused: readers could take either entry.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn decode_list(fields: &mut Fields<'_>) -> Result<Vec<Self>, TpmError> {
        let count = fields.u32("number of banks")?;
        if count > MAX_BANKS {
            return Err(fields.value("it selects from more than 16 banks"));
        }
        let mut list: Vec<Self> = Vec::new();
        for _ in 0..count {
            let bank = fields.hash("bank")?;
            let len = fields.u8("size of a bitmap")?;
            if !(1..=MAX_SELECT).contains(&len) {
                return Err(fields.value("a bitmap of registers has not 1 to 4 bytes"));
            }
            let mut bits = [0; MAX_SELECT as usize];
            for (to, from) in bits.iter_mut().zip(fields.take(usize::from(len), "bitmap")?) {
                *to = *from;
            }
            if list.iter().any(|other| other.bank == bank) {
                return Err(fields.value("it selects from one bank twice"));
            }
            list.push(Self { bank, pcrs: PcrSet(u32::from_le_bytes(bits)) });
        }
        Ok(list)
    }

    /// Writes a `TPML_PCR_SELECTION`, with bitmaps of three bytes where they suffice.
    pub fn encode_list(list: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&u32::try_from(list.len()).unwrap_or(u32::MAX).to_be_bytes());
        for selection in list {
            let bits = selection.pcrs.0.to_le_bytes();
            let len = if bits.last() == Some(&0) { MIN_SELECT } else { bits.len() };
            bytes.extend_from_slice(&selection.bank.tcg().to_be_bytes());
            bytes.push(u8::try_from(len).unwrap_or(MAX_SELECT));
            bytes.extend(bits.iter().take(len));
        }
    }
}

/// Values of registers of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    bank: Bank,
    values: BTreeMap<u32, BankValue>,
}

/// What is reported is not the values of registers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PcrValuesError {
    /// A register that does not exist.
    #[error(transparent)]
    Register(#[from] PcrSetError),
    /// Two values of one register, of which readers might take either.
    #[error("PCR {register} is reported twice")]
    Repeated {
        /// The register.
        register: u32,
    },
    /// Not a value of the bank.
    #[error("PCR {register} has {found} bytes; values of the bank {bank} have {}", .bank.len())]
    Length {
        /// The register.
        register: u32,
        /// The bank.
        bank: Bank,
        /// Bytes found.
        found: usize,
    },
}

impl PcrValues {
    /// Takes values as they are reported.
    ///
    /// # Errors
    /// [`PcrValuesError`].
    pub fn new<'a>(
        bank: Bank,
        reported: impl IntoIterator<Item = (u32, &'a [u8])>,
    ) -> Result<Self, PcrValuesError> {
        let mut values = BTreeMap::new();
        for (register, bytes) in reported {
            PcrSet::new([register])?;
            let value = BankValue::from_slice(bank, bytes);
            let value = value.ok_or(PcrValuesError::Length { register, bank, found: bytes.len() })?;
            if values.insert(register, value).is_some() {
                return Err(PcrValuesError::Repeated { register });
            }
        }
        Ok(Self { bank, values })
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The registers.
    #[must_use]
    pub fn pcrs(&self) -> PcrSet {
        PcrSet(self.values.keys().fold(0, |set, register| set | 1_u32.checked_shl(*register).unwrap_or(0)))
    }

    /// The value of a register.
    #[must_use]
    pub fn get(&self, register: u32) -> Option<BankValue> {
        self.values.get(&register).copied()
    }

    /// Registers and values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &BankValue)> {
        self.values.iter().map(|(register, value)| (*register, value))
    }

    /// The digest that a quote has of these values: `hash` is that of the signature, not of the bank.
    #[must_use]
    pub fn digest(&self, hash: Bank) -> BankValue {
        hash.hash(self.values.values().map(BankValue::as_bytes))
    }
}
