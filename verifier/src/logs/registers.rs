//! Step one: the logs are true, because together they lead from zero to the attested registers.

use std::ops::RangeInclusive;

use evidence::bank::{Bank, BankValue};
use evidence::hash::{Digest, HashAlgorithm};
use evidence::ima::{self, ExtendRule, Register, Replay};
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
    pub log: ima::ValidLog<'a>,
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
    let ima = ima.map(|list| ima::Log::new(list)?.check()).transpose().map_err(|error| malformed(&error))?;
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
    let registers = registers(bank, rems, &before)?;
    let replay = ima.as_ref().map(|log| log.replay(&registers, ExtendRule::PerBank));
    for (at, (register, explained)) in registers.iter().zip(&mut explained).enumerate() {
        let in_ima = replay.as_ref().is_some_and(|replay| replay.is_used(at));
        let Register { pcr, before, attested } = register;
        if !in_ima && before != attested {
            if *explained == Explained::Boot {
                return Err(refuse(
                    Code::LogMismatch,
                    format!(
                        "the boot log leads to {before} in register {pcr}, extensible measurement {} is {attested}: \
                         the log is not what was measured",
                        pcr - 1
                    ),
                ));
            }
            *explained = Explained::Unexplained;
        }
    }
    let ima = match ima.zip(replay) {
        Some((log, replay)) => Some(attest_ima(log, &registers, &replay, &mut explained)?),
        None => None,
    };
    Ok(Attested { bank, boot, ima, explained })
}

/// The measurement registers, with their values before the IMA log and their attested values.
fn registers(bank: Bank, rems: &[Digest; 4], before: &[BankValue; 4]) -> Result<Vec<Register>, Refusal> {
    let register = |((rem, before), pcr): ((&Digest, &BankValue), u32)| {
        let attested = BankValue::from_slice(bank, rem.as_bytes()).ok_or_else(|| {
            refuse(Code::LogMismatch, format!("extensible measurement {} is not of {bank}", pcr - 1))
        })?;
        Ok(Register { pcr, before: *before, attested })
    };
    rems.iter().zip(before).zip(REGISTERS).map(register).collect()
}

/// `per_bank` is what the list makes of `registers` under the present rule of Linux.
fn attest_ima<'a>(
    log: ima::ValidLog<'a>,
    registers: &[Register],
    per_bank: &Replay,
    explained: &mut [Explained; 4],
) -> Result<AttestedIma<'a>, Refusal> {
    let used: Vec<usize> = (0..registers.len()).filter(|at| per_bank.is_used(*at)).collect();
    if used.is_empty() {
        // Stock Linux measures into PCR 10 of a TPM. That says nothing about a Realm, for or against it.
        return Ok(AttestedIma { log, entries: 0, any: false, rule: ExtendRule::PerBank });
    }
    let (entries, rule) = match per_bank.attested(used.iter().copied()) {
        Some(entries) => (Some(entries), ExtendRule::PerBank),
        None => {
            let padded = log.replay(registers, ExtendRule::PaddedSha1);
            (padded.attested(used.iter().copied()), ExtendRule::PaddedSha1)
        }
    };
    let used = used.iter().filter_map(|at| registers.get(*at));
    let Some(entries) = entries else {
        let names: Vec<String> = used.map(|register| register.pcr.to_string()).collect();
        return Err(refuse(
            Code::LogMismatch,
            format!(
                "no part of the IMA log leads to the attested values of its registers ({}): the log is not what was \
                 measured, or was read before the token",
                names.join(", ")
            ),
        ));
    };
    let mut any = false;
    for register in used.filter(|register| register.before != register.attested) {
        any = true;
        if let Some(explained) = index(register.pcr).and_then(|at| explained.get_mut(at)) {
            *explained = match explained {
                Explained::Boot => Explained::BootAndIma,
                _ => Explained::Ima,
            };
        }
    }
    Ok(AttestedIma { log, entries, any, rule })
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
