//! Step `logs`, measured boot: the log leads to the registers that were quoted.

use std::ops::RangeInclusive;

use evidence::bank::Bank;
use evidence::tcg::{Covers, Event, EventData, EventLog, Registers, Variable};
use evidence::tpm::PcrValues;

use crate::logs::{BootReferences, BootReport, BootRules, LogReferences, golden_boot, judge_boot};
use crate::refusal::{Code, Refusal, Step, Subject, sentence};

/// Most events that are appraised. Boots have some hundred; each goes to policies.
const MAX_EVENTS: usize = 10_000;

/// Registers that software extends after the boot, without a record in the boot log: IMA's, and those that may be reset
/// for tests and applications.
const AFTER_BOOT: [u32; 3] = [10, 16, 23];

/// The registers of every boot: firmware, configuration, images, Secure Boot, the boot loader.
const BOOT: RangeInclusive<u32> = 0..=9;

/// The events of a log that were really measured.
#[derive(Clone, Debug)]
pub struct BootEvents<'a> {
    /// The events for quoted registers, in their order.
    pub events: Vec<ProvenEvent<'a>>,
    /// How many events are for registers that were not quoted. They are not told to anybody.
    pub unproven: usize,
    /// Whether Secure Boot was on; `None` if it was not measured into a quoted register.
    pub secure_boot: Option<bool>,
    bank: Bank,
    /// A register that the boot is measured into, and that was not quoted.
    unquoted: Option<u32>,
}

/// An event whose digest is true.
#[derive(Clone, Debug)]
pub struct ProvenEvent<'a> {
    /// Its position in the log, from 0, without the header.
    pub number: usize,
    /// The event.
    pub event: Event<'a>,
    /// What its digest covers. Data that it does not cover proves nothing.
    pub covers: Covers,
}

/// Replays `log` against quoted registers.
///
/// # Errors
/// [`Refusal`] of the step `logs`.
pub fn replay_boot<'a>(log: &'a [u8], quoted: &PcrValues) -> Result<BootEvents<'a>, Refusal> {
    let malformed = |error: &dyn std::error::Error| refuse(Code::LogMalformed, sentence(error));
    let bank = quoted.bank();
    let log = EventLog::decode(log).map_err(|error| malformed(&error))?;
    if log.events.len() > MAX_EVENTS {
        return Err(refuse(
            Code::LogMalformed,
            format!("the boot log has {} events; at most {MAX_EVENTS} are appraised", log.events.len()),
        ));
    }
    let replayed = log.replay(Registers::Pcr, bank).map_err(|error| malformed(&error))?;
    let mut wrong: Option<Refusal> = None;
    for (register, value) in quoted.iter() {
        let expected = match replayed.get(&register) {
            Some(expected) => *expected,
            None if AFTER_BOOT.contains(&register) => continue,
            None => Registers::Pcr.initial(register, bank),
        };
        if expected != *value {
            let refusal = wrong.unwrap_or_else(|| {
                refuse(
                    Code::LogMismatch,
                    format!(
                        "the boot log leads to {expected} in PCR {register}, and {value} was quoted: the log is not what \
                         was measured, or is not complete"
                    ),
                )
            });
            let (expected, found) = (Some(expected.to_string()), value.to_string());
            wrong = Some(refusal.about(Subject::Pcr { index: register, expected, found }));
        }
    }
    if let Some(refusal) = wrong {
        return Err(refusal);
    }
    let total = log.events.iter().filter(|event| event.extends()).count();
    let measured = log.events.iter().filter(|event| event.extends()).map(|event| event.register);
    let mut of_boot = BOOT.chain(measured).filter(|register| !AFTER_BOOT.contains(register));
    let unquoted = of_boot.find(|register| quoted.get(*register).is_none());
    let mut events = Vec::with_capacity(total);
    for (number, event) in log.events.into_iter().enumerate() {
        if !event.extends() || quoted.get(event.register).is_none() {
            continue;
        }
        let covers = event.covers(bank).ok_or_else(|| {
            let found = format!(
                "event {number} of the boot log ({}) does not carry the data that was measured: its {bank} digest is \
                 of something else",
                event.kind
            );
            let position = u64::try_from(number).unwrap_or(u64::MAX);
            let subject = Subject::boot_event(position, &found);
            refuse(Code::LogMismatch, found).about(subject)
        })?;
        events.push(ProvenEvent { number, event, covers });
    }
    let secure_boot = secure_boot(&events);
    Ok(BootEvents { unproven: total - events.len(), events, secure_boot, bank, unquoted })
}

impl BootEvents<'_> {
    /// Holds the boot against what is known: everything that was measured must be, in its role.
    ///
    /// # Errors
    /// [`Refusal`] of the step `logs`: something is not known, missing or not allowed, or a register of the boot was not
    /// quoted.
    pub fn judge(&self, references: &LogReferences, rules: &BootRules) -> Result<BootReport, Refusal> {
        if let Some(register) = self.unquoted {
            return Err(refuse(
                Code::LogMissing,
                format!(
                    "the boot is measured into PCR {register}, too, which was not quoted: quote PCR 0 to 9 and all others that \
                     the boot log has events for"
                ),
            ));
        }
        let events = self.events.iter().map(|proven| (proven.number, &proven.event));
        judge_boot(events, Registers::Pcr, self.bank, references, rules)
    }
}

/// The references by which the boot of a TPM's machine passes, and no other does: for whoever vouches for it. `kernel` is the
/// name of the kernel's entry. The log's account is believed.
///
/// # Errors
/// [`Refusal`] of the step `logs`: the log is malformed, or what no reference can say is in it.
pub fn boot_references(log: &[u8], bank: Bank, kernel: &str) -> Result<BootReferences, Refusal> {
    let malformed = |error: &dyn std::error::Error| refuse(Code::LogMalformed, sentence(error));
    let log = EventLog::decode(log).map_err(|error| malformed(&error))?;
    log.replay(Registers::Pcr, bank).map_err(|error| malformed(&error))?;
    golden_boot(&log, Registers::Pcr, bank, kernel)
}

/// The value of the variable SecureBoot; it counts as on only if it is on wherever it was measured.
fn secure_boot(events: &[ProvenEvent<'_>]) -> Option<bool> {
    let mut values = events.iter().filter_map(|proven| match (proven.covers, proven.event.decode_data()) {
        (Covers::Data, EventData::Variable(Variable { vendor: Variable::GLOBAL, name, value }))
            if name == "SecureBoot" && proven.event.register == SECURE_BOOT_PCR =>
        {
            Some(value == [1])
        }
        _ => None,
    });
    values.next().map(|first| values.fold(first, |all, on| all && on))
}

/// The register of Secure Boot's policy (PC Client Platform Firmware Profile, 3.3.4.8).
const SECURE_BOOT_PCR: u32 = 7;

fn refuse(code: Code, detail: impl Into<String>) -> Refusal {
    Refusal::new(Step::Logs, code, detail)
}
