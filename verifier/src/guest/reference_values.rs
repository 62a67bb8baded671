//! Step `reference_values`: the measurements are ones that the operator registered.

use super::AttestedGuest;
use crate::reference::{RealmReference, ReferenceValues};
use crate::refusal::{Code, Refusal, Step};

/// Finds a reference that the guest matches in full.
pub fn verify(
    guest: &AttestedGuest<'_>,
    references: &dyn ReferenceValues,
) -> Result<RealmReference, Refusal> {
    let mut first_difference = None;
    let candidates =
        references.realm(&guest.rim).map_err(|error| Refusal::unavailable(Step::ReferenceValues, &error))?;
    for reference in candidates {
        match difference(guest, &reference) {
            None => return Ok(reference),
            Some(found) => first_difference = first_difference.or(Some(found)),
        }
    }
    Err(first_difference.unwrap_or_else(|| {
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
