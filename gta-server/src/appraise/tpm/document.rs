//! What policies see, with the member names of the Global Trust Authority. Nothing is shown that was not proven.

use std::fmt::Write as _;
use std::ops::Range;
use std::thread;

use evidence::bank::Bank;
use evidence::tcg::{Covers, EventData};
use evidence::tpm::PcrValues;
use serde_json::{Value, json};
use verifier::Refusal;
use verifier::logs::{BootReport, ImaReport};
use verifier::rego::Document;
use verifier::tpm::{BootEvents, ImaProof, ProvenEvent};

use crate::json::with;
use crate::model::AttesterType;

/// Most entries of an IMA log that policies see.
const MAX_ENTRIES: usize = 10_000;

/// Fewer are made sooner than a thread is.
const WORTH_A_THREAD: usize = 1000;

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

/// A log of measured boot, without its [`boot_events`].
pub fn boot(events: &BootEvents<'_>, status: &Status<(String, BootReport)>) -> Value {
    let log = json!({
        "log_type": "TcgEventLog",
        "log_status": "replay_success",
        "ref_value_match_status": status.name(),
        "secure_boot": events.secure_boot,
        "unproven_events": events.unproven,
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

/// The events of a log of measured boot.
pub fn boot_events(events: &BootEvents<'_>, bank: Bank) -> Document {
    let rows = events.events.iter().map(|proven| {
        let event = &proven.event;
        let digest = event.digest(bank).map(hex::encode).unwrap_or_default();
        [
            Document::from(json!(proven.number)),
            Document::from(event.register),
            Document::from(event.kind.to_string().as_str()),
            Document::from_iter([(bank.name(), Document::from(digest.as_str()))]),
            Document::from(json!(proven.covers != Covers::Other)),
            Document::from(content(proven)),
        ]
    });
    let names = ["event_number", "pcr_index", "event_type", "digest", "digest_verified", "event"];
    Document::table(names, rows)
}

/// What an event says, as far as its digest covers it.
fn content(proven: &ProvenEvent<'_>) -> Value {
    match (proven.covers, proven.event.decode_data()) {
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
    }
}

/// The entries of a log of IMA. Not as JSON, which takes longer to make of ten thousand than they take to appraise.
pub fn ima_entries(proof: &ImaProof<'_>) -> Document {
    let count = proof.attested().min(MAX_ENTRIES);
    if count < WORTH_A_THREAD {
        return rows(proof, 0..count);
    }
    let middle = count / 2;
    thread::scope(|scope| {
        let second = || rows(proof, middle..count);
        let thread = thread::Builder::new().name("rows".to_owned()).spawn_scoped(scope, second);
        let first = rows(proof, 0..middle);
        // Without a thread everything is left to do.
        let made = thread.ok().and_then(|thread| thread.join().ok());
        first.followed_by(made.unwrap_or_else(second))
    })
}

fn rows(proof: &ImaProof<'_>, entries: Range<usize>) -> Document {
    // Nearly all entries have the same.
    let mut template = (None, Document::null());
    let mut register = (None, Document::null());
    let mut text = String::new();
    let rows = proof.entries().skip(entries.start).take(entries.len()).map(|entry| {
        if register.0 != Some(entry.pcr) {
            register = (Some(entry.pcr), Document::from(entry.pcr));
        }
        if template.0 != Some(entry.template) {
            template = (Some(entry.template), Document::from(entry.template.name()));
        }
        text.clear();
        // Text takes whatever is written.
        let _ = write!(text, "{}", entry.digest);
        let path = String::from_utf8_lossy(entry.path);
        [register.1.clone(), template.1.clone(), Document::from(text.as_str()), Document::from(&*path)]
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

#[cfg(test)]
mod tests {
    use evidence::bank::BankValue;
    use evidence::ima::{ExtendRule, FileDigest, Log, LogWriter, Template};
    use evidence::tcg::{EventLog, EventType, Variable};
    use verifier::tpm::{ImaPart, replay_boot, replay_ima};

    use super::*;

    #[test]
    fn policies_see_what_events_say_if_their_digests_cover_it() {
        let variable = |name: &str, value: &'static [u8]| {
            Variable { vendor: [1; 16], name: name.to_owned(), value }.encode()
        };
        let (enabled, keys) = (variable("SecureBoot", &[1]), variable("PK", &[7, 8]));
        let mut log = EventLog::crypto_agile(0, &[Bank::Sha256]);
        log.measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &enabled, enabled.clone());
        log.measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &keys, keys.clone());
        log.measure(8, EventType::IPL, b"boot", &b"grub_cmd: boot\0"[..]);
        log.measure(9, EventType::IPL, b"the kernel", &b"/vmlinuz\0"[..]);
        let mut registers = [7, 8, 9].map(|register| (register, BankValue::zero(Bank::Sha256)));
        for event in &log.events {
            for (_, value) in registers.iter_mut().filter(|(register, _)| *register == event.register) {
                value.extend(event.digest(Bank::Sha256).unwrap());
            }
        }
        let values = registers.iter().map(|(register, value)| (*register, value.as_bytes()));
        let pcrs = PcrValues::new(Bank::Sha256, values).unwrap();
        let bytes = log.encode();
        let seen = boot_events(&replay_boot(&bytes, &pcrs).unwrap(), Bank::Sha256);
        let row = |number: usize, covered: bool, event: Value| {
            let of = &log.events[number];
            json!({
                "event_number": number,
                "pcr_index": of.register,
                "event_type": of.kind.to_string(),
                "digest": { "sha256": hex::encode(of.digest(Bank::Sha256).unwrap()) },
                "digest_verified": covered,
                "event": event,
            })
        };
        let named = |name: &str, data: Value| json!({ "unicode_name": name, "vendor": "01".repeat(16), "variable_data": data });
        assert_eq!(
            serde_json::to_value(seen).unwrap(),
            json!([
                row(0, true, named("SecureBoot", json!({ "value": "01", "enabled": "Yes" }))),
                row(1, true, named("PK", json!({ "value": "0708" }))),
                row(2, true, json!({ "text": "boot" })),
                row(3, false, Value::Null),
            ])
        );
    }

    /// What policies see of a list of so many entries.
    fn seen(count: usize) -> Value {
        let mut log = LogWriter::default();
        for index in 0..count {
            let digest = FileDigest { verity: false, algorithm: "sha256", value: &[7; 32] };
            let path = format!("/{index}");
            match index % 3 {
                0 => log.measure(10, Template::ImaSig, digest, path.as_bytes(), &[b""]),
                _ => log.measure(10, Template::ImaNg, digest, path.as_bytes(), &[]),
            }
        }
        let bytes = log.finish();
        let mut value = BankValue::zero(Bank::Sha256);
        for entry in Log::new(&bytes).unwrap().entries() {
            value.extend(entry.unwrap().extension(Bank::Sha256, ExtendRule::PerBank).as_bytes());
        }
        let pcrs = PcrValues::new(Bank::Sha256, [(10, value.as_bytes())]).unwrap();
        let proof = replay_ima(ImaPart { first: 0, log: &bytes }, None, &pcrs, None).unwrap();
        serde_json::to_value(ima_entries(&proof)).unwrap()
    }

    #[test]
    fn policies_see_the_first_ten_thousand_entries_in_their_order() {
        for count in [1, WORTH_A_THREAD - 1, WORTH_A_THREAD, WORTH_A_THREAD + 1, MAX_ENTRIES + 1] {
            let expected: Vec<Value> = (0..count.min(MAX_ENTRIES))
                .map(|index| {
                    json!({
                        "pcr_index": 10,
                        "template_name": if index % 3 == 0 { "ima-sig" } else { "ima-ng" },
                        "file_hash": format!("sha256:{}", "07".repeat(32)),
                        "file_path": format!("/{index}"),
                    })
                })
                .collect();
            assert_eq!(seen(count), Value::Array(expected), "{count}");
        }
    }
}
