//! What policies see, with the member names of the Global Trust Authority. Nothing is shown that was not proven.

use evidence::bank::Bank;
use evidence::tcg::{Covers, EventData};
use evidence::tpm::PcrValues;
use serde_json::{Map, Value, json};
use verifier::Refusal;
use verifier::logs::{BootReport, ImaReport};
use verifier::rego::Document;
use verifier::tpm::{BootEvents, ImaProof, ProvenEvent};

use crate::json::with;
use crate::model::AttesterType;

/// Most entries of an IMA log that policies see.
const MAX_ENTRIES: usize = 10_000;

/// Whether what was measured is known.
pub enum Status<R> {
    /// All of it.
    Matched(R),
    /// Not all of it.
    Unmatched(Refusal),
    /// Nothing is registered.
    Ignore,
}

/// A log that was not sent.
pub fn absent(kind: AttesterType) -> Value {
    json!({ "log_type": super::log_type(kind), "log_status": "no_log", "ref_value_match_status": "ignore", "log_data": [] })
}

/// A log that is not what was measured.
pub fn failed(log_type: &str, refusal: &Refusal) -> Value {
    json!({
        "log_type": log_type,
        "log_status": "replay_failure",
        "ref_value_match_status": "ignore",
        "reason": reason(refusal),
        "log_data": [],
    })
}

fn reason(refusal: &Refusal) -> Value {
    json!({ "code": refusal.code.as_str(), "detail": refusal.detail })
}

/// The registers.
pub fn pcrs(values: &PcrValues) -> Value {
    let registers: Vec<Value> = values
        .iter()
        .map(|(register, value)| json!({ "pcr_index": register, "pcr_value": value.to_string() }))
        .collect();
    json!({ "hash_alg": values.bank().name(), "pcr_values": registers })
}

impl<R> Status<R> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Matched(_) => "matched",
            Self::Unmatched(_) => "unmatched",
            Self::Ignore => "ignore",
        }
    }
}

/// A log of measured boot.
pub fn boot(events: &BootEvents<'_>, bank: Bank, status: &Status<(String, BootReport)>) -> Value {
    let log = json!({
        "log_type": "TcgEventLog",
        "log_status": "replay_success",
        "ref_value_match_status": status.name(),
        "secure_boot": events.secure_boot,
        "unproven_events": events.unproven,
        "log_data": events.events.iter().map(|event| boot_event(event, bank)).collect::<Vec<_>>(),
    });
    match status {
        Status::Matched((set, report)) => {
            let matched =
                json!({ "ref_value": set, "kernel": report.kernel, "components": report.components });
            with(log, "matched", matched)
        }
        Status::Unmatched(refusal) => with(log, "reason", reason(refusal)),
        Status::Ignore => log,
    }
}

fn boot_event(proven: &ProvenEvent<'_>, bank: Bank) -> Value {
    let event = &proven.event;
    let digest = event.digest(bank).map(hex::encode).unwrap_or_default();
    let mut digests = Map::new();
    digests.insert(bank.name().to_owned(), Value::from(digest));
    let content = match (proven.covers, event.decode_data()) {
        (Covers::Data, EventData::Variable(variable)) => {
            let mut data = json!({ "value": hex::encode(variable.value) });
            if variable.name == "SecureBoot" {
                data = with(data, "enabled", if variable.value == [1] { "Yes" } else { "No" });
            }
            json!({ "unicode_name": variable.name, "vendor": hex::encode(variable.vendor), "variable_data": data })
        }
        (Covers::GrubText, EventData::Grub(text)) => {
            json!({ "text": String::from_utf8_lossy(text.measured()) })
        }
        (Covers::Data, EventData::Text(text)) => json!({ "text": text }),
        _ => Value::Null,
    };
    json!({
        "event_number": proven.number,
        "pcr_index": event.register,
        "event_type": event.kind.to_string(),
        "digest": digests,
        "digest_verified": proven.covers != Covers::Other,
        "event": content,
    })
}

/// The entries of a log of IMA. Not as JSON, which takes longer to make of ten thousand than they take to appraise.
pub fn ima_entries(proof: &ImaProof<'_>) -> Document {
    let rows = proof.entries().take(MAX_ENTRIES).map(|entry| {
        let (digest, path) = (entry.digest.to_string(), String::from_utf8_lossy(entry.path));
        [
            Document::from(entry.pcr),
            Document::from(entry.template.name()),
            Document::from(&*digest),
            Document::from(&*path),
        ]
    });
    Document::table(["pcr_index", "template_name", "file_hash", "file_path"], rows)
}

/// A log of IMA, without its [`ima_entries`].
pub fn ima(proof: &ImaProof<'_>, boot_aggregate: Option<bool>, status: &Status<ImaReport>) -> Value {
    let log = json!({
        "log_type": "ImaLog",
        "log_status": "replay_success",
        "ref_value_match_status": status.name(),
        "boot_aggregate_verified": boot_aggregate,
        "proven_entries": proof.state.entries,
    });
    match status {
        Status::Unmatched(refusal) => with(log, "reason", reason(refusal)),
        // What was accepted for another reason than its digest.
        Status::Matched(report) => with(
            log,
            "accepted",
            json!({ "violations": report.violations, "excluded": report.excluded, "signed": report.signed }),
        ),
        Status::Ignore => log,
    }
}
