//! Steps `reference_values` and `logs`: the measurements, and what was measured, are what the operator registered.

use evidence::envelope::Logs;

use super::AttestedGuest;
use crate::Context;
use crate::logs::{self, LogReport, LogRules};
use crate::reference::RealmReference;
use crate::refusal::{Code, Refusal, Step};

/// A reference that the guest matches in full.
pub struct Matched {
    /// The reference.
    pub reference: RealmReference,
    /// What the logs proved, held against it.
    pub logs: LogReport,
}

/// Finds a reference that the guest and its logs match in full.
pub fn verify(guest: &AttestedGuest<'_>, logs: &Logs, context: &Context<'_>) -> Result<Matched, Refusal> {
    let candidates = context.references.realm(&guest.rim);
    let candidates = candidates.map_err(|error| Refusal::unavailable(Step::ReferenceValues, &error))?;
    let mut refusals = Vec::new();
    let mut matching = Vec::new();
    for reference in candidates {
        match difference(guest, &reference) {
            None => matching.push(reference),
            Some(refusal) => refusals.push(refusal),
        }
    }
    if !matching.is_empty() {
        let boot = logs.boot.as_ref().map(|boot| boot.data.as_slice());
        let logs = logs::attest(boot, logs.ima.as_deref(), guest.hash, guest.rems)?;
        let rules = LogRules::strictest(context.policies.iter().map(|policy| &policy.rules().logs));
        // Whoever matches but for its logs comes closer than whoever does not.
        refusals.clear();
        for reference in matching {
            let pinned = reference.rems.map(|rem| rem.is_some());
            match logs.judge(reference.logs.as_deref(), pinned, &rules) {
                Ok(logs) => return Ok(Matched { reference, logs }),
                Err(refusal) => refusals.push(refusal),
            }
        }
    }
    Err(refusals.into_iter().next().unwrap_or_else(|| {
        Refusal::new(
            Step::ReferenceValues,
            Code::RimMismatch,
            format!("no reference value has the attested initial measurement {}", guest.rim),
        )
    }))
}

fn difference(guest: &AttestedGuest<'_>, reference: &RealmReference) -> Option<Refusal> {
    let refusal = |code, detail| Some(Refusal::new(Step::ReferenceValues, code, detail));
    let name = &reference.name;
    // The store was asked for this value; asking is not checking.
    if guest.rim != reference.rim {
        return refusal(
            Code::RimMismatch,
            format!("initial measurement is {}, reference {name} expects {}", guest.rim, reference.rim),
        );
    }
    if reference.rpv.is_some_and(|expected| expected != *guest.rpv) {
        return refusal(
            Code::RpvMismatch,
            format!("personalisation value is {}, reference {name} expects another", hex::encode(guest.rpv)),
        );
    }
    for (index, (attested, expected)) in guest.rems.iter().zip(&reference.rems).enumerate() {
        if let Some(expected) = expected
            && expected != attested
        {
            return refusal(
                Code::RemMismatch,
                format!("extensible measurement {index} is {attested}, reference {name} expects {expected}"),
            );
        }
    }
    None
}
