//! Step one: the logs are true, because together they lead from zero to the attested registers.

use std::ops::RangeInclusive;

use evidence::bank::{Bank, BankValue};
use evidence::hash::{Digest, HashAlgorithm};
use evidence::ima::{self, ExtendRule, Register};
use evidence::tcg::{EventLog, Registers};
use serde::Serialize;

use super::refuse;
use crate::refusal::{Code, Refusal};

/// The measurement registers that stand for the extensible measurements (UEFI 2.10, 38.4.1): register n is REM[n - 1].
pub const REGISTERS: RangeInclusive<u32> = 1..=4;

/// Most events of a boot log that are appraised. Boots have some hundred; each goes into reports and policies.
const MAX_EVENTS: usize = 10_000;

/// What explains the value of an extensible measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Explained {
    /// Nothing was ever measured into it.
    Zero,
    /// The boot log.
    Boot,
    /// The IMA log.
    Ima,
    /// The boot log, and after it the IMA log.
    BootAndIma,
    /// The reference has exactly this value.
    Reference,
    /// Nothing.
    Unexplained,
}

/// Logs that the registers attest.
pub struct Attested<'a> {
    /// The hash function of the registers.
    pub bank: Bank,
    /// The boot log.
    pub boot: Option<EventLog<'a>>,
    /// The IMA log.
    pub ima: Option<AttestedIma<'a>>,
    /// What explains each register, so far as logs do.
    pub explained: [Explained; 4],
}

/// An IMA log, of which the registers attest a part.
pub struct AttestedIma<'a> {
    /// The log.
    pub log: ima::Log<'a>,
    /// How many entries from the first are attested.
    pub entries: usize,
    /// Whether any of them extended a register that is attested.
    pub any: bool,
    /// What Linux extended with.
    pub rule: ExtendRule,
}

/// Holds logs against the extensible measurements of a Realm.
pub fn attest<'a>(
    boot: Option<&'a [u8]>,
    ima: Option<&'a [u8]>,
    hash: HashAlgorithm,
    rems: &[Digest; 4],
) -> Result<Attested<'a>, Refusal> {
    let bank = Bank::from(hash);
    let malformed = |error: &dyn std::error::Error| refuse(Code::LogMalformed, chain(error));
    let boot = boot.map(EventLog::decode).transpose().map_err(|error| malformed(&error))?;
    let ima = ima.map(ima::Log::new).transpose().map_err(|error| malformed(&error))?;
    let mut before = [BankValue::zero(bank); 4];
    let mut explained = [Explained::Zero; 4];
    if let Some(boot) = &boot {
        check_data(boot, bank)?;
        for (register, value) in
            boot.replay(Registers::Measurement, bank).map_err(|error| malformed(&error))?
        {
            let slot = index(register).and_then(|at| Some((before.get_mut(at)?, explained.get_mut(at)?)));
            let Some((before, explained)) = slot else {
                return Err(refuse(
                    Code::BootSequence,
                    format!(
                        "the boot log extends register {register}, which no extensible measurement attests"
                    ),
                ));
            };
            (*before, *explained) = (value, Explained::Boot);
        }
    }
    let in_ima = match &ima {
        Some(log) => used(log).map_err(|error| malformed(&error))?,
        None => [false; 4],
    };
    let mut by_ima = Vec::new();
    let registers = rems.iter().zip(&before).zip(in_ima).zip(&mut explained).zip(REGISTERS);
    for ((((rem, before), in_ima), explained), pcr) in registers {
        let attested = BankValue::from_slice(bank, rem.as_bytes()).ok_or_else(|| {
            refuse(Code::LogMismatch, format!("extensible measurement {} is not of {hash}", pcr - 1))
        })?;
        if in_ima {
            by_ima.push(Register { pcr, before: *before, attested });
        } else if *before != attested {
            if *explained == Explained::Boot {
                return Err(refuse(
                    Code::LogMismatch,
                    format!(
                        "the boot log leads to {before} in register {pcr}, extensible measurement {} is {rem}: \
                         the log is not what was measured",
                        pcr - 1
                    ),
                ));
            }
            *explained = Explained::Unexplained;
        }
    }
    let ima = match ima {
        Some(log) => Some(attest_ima(log, &by_ima, &mut explained)?),
        None => None,
    };
    Ok(Attested { bank, boot, ima, explained })
}

fn attest_ima<'a>(
    log: ima::Log<'a>,
    registers: &[Register],
    explained: &mut [Explained; 4],
) -> Result<AttestedIma<'a>, Refusal> {
    if registers.is_empty() {
        // Stock Linux measures into PCR 10 of a TPM. That says nothing about a Realm, for or against it.
        return Ok(AttestedIma { log, entries: 0, any: false, rule: ExtendRule::PerBank });
    }
    for rule in [ExtendRule::PerBank, ExtendRule::PaddedSha1] {
        let attested = log.attested(registers, rule);
        let attested = attested.map_err(|error| refuse(Code::LogMalformed, error.to_string()))?;
        let Some(entries) = attested else { continue };
        let mut any = false;
        for register in registers.iter().filter(|register| register.before != register.attested) {
            any = true;
            if let Some(explained) = index(register.pcr).and_then(|at| explained.get_mut(at)) {
                *explained = match explained {
                    Explained::Boot => Explained::BootAndIma,
                    _ => Explained::Ima,
                };
            }
        }
        return Ok(AttestedIma { log, entries, any, rule });
    }
    let registers: Vec<String> = registers.iter().map(|register| register.pcr.to_string()).collect();
    Err(refuse(
        Code::LogMismatch,
        format!(
            "no part of the IMA log leads to the attested values of its registers ({}): the log is not what was \
             measured, or was read before the token",
            registers.join(", ")
        ),
    ))
}

/// Which registers the entries of a list are for.
fn used(log: &ima::Log<'_>) -> Result<[bool; 4], ima::ImaError> {
    let mut used = [false; 4];
    for entry in log.entries() {
        if let Some(used) = index(entry?.pcr).and_then(|at| used.get_mut(at)) {
            *used = true;
        }
    }
    Ok(used)
}

/// Data that a digest must cover is what the digest covers; otherwise text and variables would be anyone's word.
fn check_data(log: &EventLog<'_>, bank: Bank) -> Result<(), Refusal> {
    if log.events.len() > MAX_EVENTS {
        return Err(refuse(
            Code::LogMalformed,
            format!("the boot log has {} events; at most {MAX_EVENTS} are appraised", log.events.len()),
        ));
    }
    for (index, event) in log.events.iter().enumerate().filter(|(_, event)| event.extends()) {
        if event.digest(bank).is_some() && event.covers(bank).is_none() {
            return Err(refuse(
                Code::LogMismatch,
                format!(
                    "event {index} of the boot log ({}) does not carry the data that was measured: \
                     its {bank} digest is of something else",
                    event.kind
                ),
            ));
        }
    }
    Ok(())
}

fn index(register: u32) -> Option<usize> {
    REGISTERS.contains(&register).then(|| usize::try_from(register - 1).ok()).flatten()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
