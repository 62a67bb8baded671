//! Registers.

use std::collections::BTreeMap;

use evidence::bank::Bank;
use evidence::tpm::{PcrSelection, PcrSet, PcrValues, PcrValuesError};

use super::Tpm;
use super::wire::{Code, Command};
use crate::Error;

/// Most digests in an answer (`TPML_DIGEST`, Part 2, 10.9.4).
const MAX_DIGESTS: u32 = 8;

/// A register and its value.
type Register = (u32, Vec<u8>);

const COMMAND: Command = Command { name: "TPM2_PCR_Read", code: Code::PCR_READ };

impl Tpm {
    /// `TPM2_PCR_Read`, as often as it takes; `None` if the registers changed meanwhile.
    ///
    /// # Errors
    /// [`Error::Registers`] if the TPM does not have them all.
    pub(crate) fn registers(&mut self, bank: Bank, wanted: PcrSet) -> Result<Option<PcrValues>, Error> {
        let mut values: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut updates = None;
        loop {
            let left = PcrSet::new(wanted.iter().filter(|register| !values.contains_key(register)))
                .map_err(|_| COMMAND.wrong("there is no such register"))?;
            if left.is_empty() {
                break;
            }
            let (counter, read) = self.some_registers(bank, left)?;
            if *updates.get_or_insert(counter) != counter {
                return Ok(None);
            }
            if read.is_empty() {
                return Err(Error::Registers { bank, wanted });
            }
            values.extend(read);
        }
        let reported = values.iter().map(|(register, value)| (*register, value.as_slice()));
        PcrValues::new(bank, reported).map(Some).map_err(|error| match error {
            PcrValuesError::Length { .. } => COMMAND.wrong("a value is not as long as those of its bank"),
            _ => COMMAND.wrong("it has a register that was not asked for"),
        })
    }

    /// As many of the registers as fit into one answer, at least one if the bank has any of them.
    fn some_registers(&mut self, bank: Bank, wanted: PcrSet) -> Result<(u32, Vec<Register>), Error> {
        let mut parameters = Vec::new();
        PcrSelection::encode_list(&[PcrSelection { bank, pcrs: wanted }], &mut parameters);
        let answer = self.plain(COMMAND, &[], &parameters)?;
        let mut fields = answer.fields(0)?;
        let updates = fields.u32("pcrUpdateCounter")?;
        let selection = PcrSelection::decode_list(&mut fields)?;
        let read: Vec<u32> = match &selection[..] {
            [] => Vec::new(),
            [one] if one.bank == bank => one.pcrs.iter().collect(),
            _ => return Err(COMMAND.wrong("it is about another bank")),
        };
        if read.iter().any(|register| !wanted.contains(*register)) {
            return Err(COMMAND.wrong("it has a register that was not asked for"));
        }
        let count = fields.u32("number of values")?;
        if count > MAX_DIGESTS || usize::try_from(count) != Ok(read.len()) {
            return Err(COMMAND.wrong("it has not as many values as registers"));
        }
        let values = read.into_iter().map(|register| Ok((register, fields.sized("value")?.to_vec())));
        let values = values.collect::<Result<Vec<_>, Error>>()?;
        fields.end()?;
        Ok((updates, values))
    }
}
