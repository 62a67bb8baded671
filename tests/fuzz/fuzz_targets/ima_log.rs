//! Any bytes as an IMA log in either form: a clear refusal, or entries of which as many are attested as were extended.

#![no_main]

use evidence::bank::{Bank, BankValue};
use evidence::ima::{Entry, ExtendRule, Log, Register};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let log = match Log::new(bytes) {
        Ok(log) => log,
        Err(error) => return redoubt_fuzz::readable(&error),
    };
    let entries: Vec<Entry<'_>> = match log.entries().collect() {
        Ok(entries) => entries,
        Err(error) => return redoubt_fuzz::readable(&error),
    };
    let valid = log.clone().check().expect("its entries were read");
    assert!(entries.len() <= bytes.len() / 20, "an entry takes more than its hash");
    for rule in [ExtendRule::PerBank, ExtendRule::PaddedSha1] {
        let mut registers: Vec<Register> = Vec::new();
        for entry in &entries {
            if !registers.iter().any(|register| register.pcr == entry.pcr) {
                let zero = BankValue::zero(Bank::Sha256);
                registers.push(Register { pcr: entry.pcr, before: zero, attested: zero });
            }
            for register in registers.iter_mut().filter(|register| register.pcr == entry.pcr) {
                register.attested.extend(entry.extension(Bank::Sha256, rule).as_bytes());
            }
        }
        let expected = (!registers.is_empty()).then_some(entries.len());
        assert_eq!(valid.attested(&registers, rule), expected);
    }
});
