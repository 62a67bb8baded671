//! Step `platform_software`: software and configuration of the platform are what a reference says, where there is one.

use evidence::cca::{PlatformClaims, SoftwareComponent};

use super::platform_signature::TrustedPlatform;
use crate::corim::{ComponentEndorsement, PlatformEndorsement};
use crate::reference::{PlatformReference, ReferenceValues};
use crate::refusal::{Code, Refusal, Step};

/// Finds a reference that the platform matches in full. Nothing is demanded of a platform for which none is registered;
/// policies see that there was none.
pub fn verify(
    platform: &TrustedPlatform<'_>,
    references: &dyn ReferenceValues,
    now: i64,
) -> Result<Option<PlatformReference>, Refusal> {
    let claims = platform.claims;
    let registered = references
        .platforms(&claims.implementation_id)
        .map_err(|error| Refusal::unavailable(Step::PlatformSoftware, &error))?;
    let mut refusals = Vec::new();
    for reference in registered {
        if !applies(&reference.expected, claims) {
            continue;
        }
        match difference(claims, &reference, now) {
            None => return Ok(Some(reference)),
            Some(refusal) => refusals.push(refusal),
        }
    }
    refusals.into_iter().next().map_or(Ok(None), Err)
}

/// The store was asked for this implementation; asking is not checking.
fn applies(expected: &PlatformEndorsement, claims: &PlatformClaims) -> bool {
    expected.implementation_id == claims.implementation_id
        && expected.instance_id.is_none_or(|instance| instance == claims.instance_id)
}

/// What keeps a platform from matching: a component that is in none of its forms, a component that is not there at all, or
/// configuration bits that count.
fn difference(claims: &PlatformClaims, reference: &PlatformReference, now: i64) -> Option<Refusal> {
    let (name, expected) = (&reference.name, &reference.expected);
    let refusal = |code, detail| Some(Refusal::new(Step::PlatformSoftware, code, detail));
    if reference.expires_at.is_some_and(|end| end <= now) {
        return refusal(Code::ComponentNotAllowed, format!("reference {name} for this platform has expired"));
    }
    let unknown =
        claims.components.iter().find(|found| !expected.components.iter().any(|form| is_form(form, found)));
    if let Some(found) = unknown {
        return refusal(
            Code::ComponentNotAllowed,
            format!(
                "software component {:?} {:?}, measured {}, signed by {}, is not in reference {name}",
                found.kind.as_deref().unwrap_or_default(),
                found.version.as_deref().unwrap_or_default(),
                found.measurement,
                found.signer_id
            ),
        );
    }
    // A reference may have several forms of a component, such as its versions; one of them must be there.
    let missing = expected.components.iter().find(|form| {
        !claims.components.iter().any(|found| match &form.component_type {
            Some(kind) => found.kind.as_ref() == Some(kind),
            None => is_form(form, found),
        })
    });
    if let Some(form) = missing {
        return refusal(
            Code::ComponentNotAllowed,
            format!(
                "software component {:?} of reference {name} is missing",
                form.component_type.as_deref().unwrap_or("without a type")
            ),
        );
    }
    if !expected.configuration.matches(&claims.config) {
        let found = hex::encode(&claims.config);
        return refusal(
            Code::PlatformConfigNotAllowed,
            format!("the platform's configuration is {found}, reference {name} expects another"),
        );
    }
    None
}

/// Whether `form` describes the component that was found. What a reference does not name can be anything.
fn is_form(form: &ComponentEndorsement, found: &SoftwareComponent) -> bool {
    let named = |expected: &Option<String>, found: &Option<String>| {
        expected.as_ref().is_none_or(|expected| found.as_ref() == Some(expected))
    };
    form.signer_id == found.signer_id
        && named(&form.component_type, &found.kind)
        && named(&form.version, &found.version)
        && form.measurement(found.measurement.algorithm()) == Some(&found.measurement)
}
