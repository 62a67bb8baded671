//! What the registers must be if the log is true.

use std::collections::BTreeMap;

use super::{EventData, EventLog, EventType, ReplayError};
use crate::bank::{Bank, BankValue};

/// The registers that a log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registers {
    /// The PCRs of a TPM. PCR 17 to 22 start as 0xff (no dynamic launch), PCR 0 with the startup locality.
    Pcr,
    /// The measurement registers of a confidential guest; all start as zero.
    Measurement,
}

impl Registers {
    /// The value before the first event.
    pub fn initial(self, register: u32, bank: Bank) -> BankValue {
        match self {
            Self::Pcr if (17..=22).contains(&register) => BankValue::ones(bank),
            Self::Pcr | Self::Measurement => BankValue::zero(bank),
        }
    }
}

impl EventLog<'_> {
    /// The value of each register that the log extends, in `bank`.
    ///
    /// # Errors
    /// An event without a digest for the bank, or a startup locality out of place.
    pub fn replay(&self, registers: Registers, bank: Bank) -> Result<BTreeMap<u32, BankValue>, ReplayError> {
        let mut values: BTreeMap<u32, BankValue> = BTreeMap::new();
        for (index, event) in self.events.iter().enumerate() {
            if !event.extends() {
                if registers == Registers::Pcr
                    && let EventData::StartupLocality(locality) = event.decode_data()
                {
                    let first = !values.contains_key(&0);
                    if !first || !matches!(locality, 0 | 3 | 4) {
                        return Err(ReplayError::Locality { event: index });
                    }
                    values.insert(0, BankValue::locality(bank, locality));
                }
                continue;
            }
            let digest = event.digest(bank).ok_or(ReplayError::MissingDigest { event: index, bank })?;
            if digest.len() != bank.len() {
                return Err(ReplayError::DigestLength { event: index, bank, found: digest.len() });
            }
            let initial = || match event.kind {
                // A hardware root of trust measures before the start, and leaves locality 4 behind.
                EventType::EFI_HCRTM_EVENT if registers == Registers::Pcr && event.register == 0 => {
                    BankValue::locality(bank, 4)
                }
                _ => registers.initial(event.register, bank),
            };
            values.entry(event.register).or_insert_with(initial).extend(digest);
        }
        Ok(values)
    }
}
