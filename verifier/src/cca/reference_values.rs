//! Step `reference_values`: the measurements are ones that the operator registered.

use evidence::cca::RealmClaims;

use super::realm_signature::TrustedRealm;
use crate::reference::{RealmReference, ReferenceValues};
use crate::refusal::{Code, Refusal, Step};

/// Finds a reference that the Realm matches in full.
pub fn verify(realm: &TrustedRealm<'_>, references: &dyn ReferenceValues) -> Result<RealmReference, Refusal> {
    let claims = realm.0;
    let mut first_difference = None;
    let candidates =
        references.realm(&claims.rim).map_err(|error| Refusal::unavailable(Step::ReferenceValues, &error))?;
    for reference in candidates {
        match difference(claims, &reference) {
            None => return Ok(reference),
            Some(found) => first_difference = first_difference.or(Some(found)),
        }
    }
    Err(first_difference.unwrap_or_else(|| {
        Refusal::new(
            Step::ReferenceValues,
            Code::RimMismatch,
            format!("no reference value has the attested initial measurement {}", claims.rim),
        )
    }))
}

fn difference(claims: &RealmClaims, reference: &RealmReference) -> Option<Refusal> {
    let refusal = |code, detail| Some(Refusal::new(Step::ReferenceValues, code, detail));
    let name = &reference.name;
    // The store was asked for this value; asking is not checking.
    if claims.rim != reference.rim {
        return refusal(
            Code::RimMismatch,
            format!("initial measurement is {}, reference {name} expects {}", claims.rim, reference.rim),
        );
    }
    if reference.rpv.is_some_and(|expected| expected != claims.rpv) {
        return refusal(
            Code::RpvMismatch,
            format!("personalisation value is {}, reference {name} expects another", hex::encode(claims.rpv)),
        );
    }
    for (index, (attested, expected)) in claims.rems.iter().zip(&reference.rems).enumerate() {
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
