//! What policies see: secGear's document, in which an unregistered value is null, and beside it the typed claims.

use serde_json::{Map, Value};

use crate::reference::{RealmReference, ReferenceValues};
use crate::refusal::StoreError;
use crate::rego::Document;

/// secGear's claim of the platform's software.
pub const MEASURED: &str = "vcca.platform.measure_value";
/// Claims that secGear shows to policies as they are: they are for the policy itself to judge.
const SHOWN_AS_THEY_ARE: [&str; 2] = ["vcca.is_platform", MEASURED];

/// The input document for evidence of kind `tee`.
///
/// Every claim of `tcb_status` is there under its name, with its value if exactly this value is registered under this
/// name, or expected by the `reference` that was matched, and null otherwise. `claims` are the verified claims as they are;
/// `converted` are members of `tcb_status` that need no conversion any more.
pub fn document(
    tee: &str,
    claims: Document,
    tcb_status: &Map<String, Value>,
    converted: &[(&str, Document)],
    reference: &RealmReference,
    references: &dyn ReferenceValues,
) -> Result<Document, StoreError> {
    let registered = references.registered(tcb_status)?;
    // What is not shown is not converted either, which is most of it.
    let status = tcb_status.iter().map(|(name, value)| {
        let shown = SHOWN_AS_THEY_ARE.contains(&name.as_str())
            || registered.contains(name)
            || expects(reference, name, value);
        let converted = || converted.iter().find(|(known, _)| known == name).map(|(_, document)| document);
        let document = match shown {
            true => converted().cloned().unwrap_or_else(|| Document::from(value)),
            false => Document::null(),
        };
        (name.as_str(), document)
    });
    Ok(status.chain([("tee", Document::from(Value::from(tee))), ("claims", claims)]).collect())
}

/// Whether `reference` names this very value for this measurement.
fn expects(reference: &RealmReference, name: &str, value: &Value) -> bool {
    let Some(value) = value.as_str() else { return false };
    match name.splitn(3, '.').nth(2) {
        Some("rim") => value == reference.rim.to_string(),
        Some("rpv") => reference.rpv.is_some_and(|rpv| value == hex::encode(rpv)),
        Some(measurement) => measurement
            .strip_prefix("rem.")
            .and_then(|index| index.parse::<usize>().ok())
            .and_then(|index| reference.rems.get(index))
            .and_then(Option::as_ref)
            .is_some_and(|rem| value == rem.to_string()),
        None => false,
    }
}
