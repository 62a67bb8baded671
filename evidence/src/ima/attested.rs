//! How much of a list the registers attest.

use super::{Entry, ImaError, Log};
use crate::bank::{Bank, BankValue};

/// What a kernel extends banks other than SHA-1 with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendRule {
    /// The hash of the template's data in the bank's own algorithm: Linux 5.8 and newer.
    PerBank,
    /// The SHA-1 hash followed by zeros: older kernels, and banks whose algorithm the kernel lacks.
    PaddedSha1,
}

/// A register with its value before the first entry and its attested value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its number in the list.
    pub pcr: u32,
    /// The value before the first entry.
    pub before: BankValue,
    /// The attested value, of the same bank.
    pub attested: BankValue,
}

impl Entry<'_> {
    /// What the entry extends a register of `bank` with.
    pub fn extension(&self, bank: Bank, rule: ExtendRule) -> BankValue {
        match rule {
            ExtendRule::PerBank if self.is_violation() => BankValue::ones(bank),
            ExtendRule::PerBank => self.template_hash(bank),
            ExtendRule::PaddedSha1 => {
                let sha1 = match self.is_violation() {
                    true => BankValue::ones(Bank::Sha1),
                    false => self.template_hash(Bank::Sha1),
                };
                BankValue::padded(bank, sha1.as_bytes())
            }
        }
    }
}

impl Log<'_> {
    /// How many entries, from the first, lead every one of `registers` from its value before to its attested value;
    /// `None` if there is no such number, or no register. Entries for other registers are counted and extend nothing.
    ///
    /// A list grows while it is read, so that entries may follow that the attestation does not know of. They are read, too,
    /// and prove nothing.
    ///
    /// # Errors
    /// The first entry that is not valid, wherever it is.
    pub fn attested(&self, registers: &[Register], rule: ExtendRule) -> Result<Option<usize>, ImaError> {
        let mut current: Vec<BankValue> = registers.iter().map(|register| register.before).collect();
        let differing = |current: &[BankValue]| {
            current.iter().zip(registers).filter(|(value, register)| **value != register.attested).count()
        };
        let mut open = differing(&current);
        let mut attested = None;
        let mut entries = self.entries().enumerate();
        for (index, entry) in entries.by_ref() {
            let entry = entry?;
            let register = registers.iter().position(|register| register.pcr == entry.pcr);
            let Some((value, register)) =
                register.and_then(|index| Some((current.get_mut(index)?, registers.get(index)?)))
            else {
                continue;
            };
            if open == 0 {
                // An extended register never returns to an earlier value, so this is where the attestation ends.
                attested = Some(index);
                break;
            }
            let matched = *value == register.attested;
            value.extend(entry.extension(value.bank(), rule).as_bytes());
            match (matched, *value == register.attested) {
                (true, false) => open += 1,
                (false, true) => open -= 1,
                _ => {}
            }
        }
        if attested.is_some() {
            entries.try_for_each(|(_, entry)| entry.map(drop))?;
            return Ok(attested);
        }
        Ok((open == 0 && !registers.is_empty()).then(|| self.entries().count()))
    }
}
