//! Step `logs`, measured boot: the log leads to the registers that were quoted.

use evidence::tcg::{Covers, Event, EventData, EventLog, Registers, Variable};
use evidence::tpm::PcrValues;

use crate::refusal::{Code, Refusal, Step, sentence};

/// Most events that are appraised. Boots have some hundred; each goes to policies.
const MAX_EVENTS: usize = 10_000;

/// Registers that software extends after the boot, without a record in the boot log: IMA's, and those that may be reset
/// for tests and applications.
const AFTER_BOOT: [u32; 3] = [10, 16, 23];

/// The events of a log that were really measured.
#[derive(Clone, Debug)]
pub struct BootEvents<'a> {
    /// The events for quoted registers, in their order.
    pub events: Vec<ProvenEvent<'a>>,
    /// How many events are for registers that were not quoted. They are not told to anybody.
    pub unproven: usize,
    /// Whether Secure Boot was on; `None` if it was not measured into a quoted register.
    pub secure_boot: Option<bool>,
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
    for (register, value) in quoted.iter() {
        let expected = match replayed.get(&register) {
            Some(expected) => *expected,
            None if AFTER_BOOT.contains(&register) => continue,
            None => Registers::Pcr.initial(register, bank),
        };
        if expected != *value {
            return Err(refuse(
                Code::LogMismatch,
                format!(
                    "the boot log leads to {expected} in PCR {register}, and {value} was quoted: the log is not what \
                     was measured, or is not complete"
                ),
            ));
        }
    }
    let total = log.events.iter().filter(|event| event.extends()).count();
    let mut events = Vec::with_capacity(total);
    for (number, event) in log.events.into_iter().enumerate() {
        if !event.extends() || quoted.get(event.register).is_none() {
            continue;
        }
        let covers = event.covers(bank).ok_or_else(|| {
            refuse(
                Code::LogMismatch,
                format!(
                    "event {number} of the boot log ({}) does not carry the data that was measured: its {bank} digest is \
                     of something else",
                    event.kind
                ),
            )
        })?;
        events.push(ProvenEvent { number, event, covers });
    }
    let secure_boot = secure_boot(&events);
    Ok(BootEvents { unproven: total - events.len(), events, secure_boot })
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
