//! Reads logs that other projects published. Not part of the default run: the data is not ours to copy.
//!
//! `REDOUBT_VECTORS=<folder> cargo test -p evidence --features sample-data`

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::{Bank, BankValue};
use evidence::ima::{self, ExtendRule, Register};
use evidence::tcg::{Covers, EventData, EventLog, Registers};
use serde_json::Value;

fn sample(name: &str) -> Vec<u8> {
    let folder = std::env::var("REDOUBT_VECTORS").expect("set REDOUBT_VECTORS to the folder of samples");
    std::fs::read(PathBuf::from(folder).join(name)).unwrap()
}

#[test]
fn a_tdx_guests_log_is_read_as_trustee_reads_it() {
    let bytes = sample("ccel-grub-tdx.bin");
    let log = EventLog::decode(&bytes).unwrap();
    let expected: Value = serde_json::from_slice(&sample("ccel-grub-tdx.expected.json")).unwrap();
    let expected = expected["uefi_event_logs"].as_array().unwrap();
    assert_eq!(log.events.len(), expected.len());
    for (event, expected) in log.events.iter().zip(expected) {
        assert_eq!(event.register, expected["index"]);
        assert_eq!(event.kind.to_string(), expected["type_name"].as_str().unwrap());
        assert_eq!(STANDARD.encode(&event.data), expected["event"].as_str().unwrap());
        let digest = expected["digests"][0]["digest"].as_str().unwrap();
        assert_eq!(hex::encode(event.digest(Bank::Sha384).unwrap()), digest);
        let whole = event.covers(Bank::Sha384) == Some(Covers::Data);
        assert_eq!(whole, expected["digest_matches_event"], "{event:?}");
        if let EventData::Variable(variable) = event.decode_data() {
            assert_eq!(variable.name, expected["details"]["unicode_name"]);
        }
    }
    let again = log.encode();
    assert_eq!(again, bytes[..again.len()]);
    assert_eq!(log.encode_area(bytes.len()), bytes);
}

fn evidence() -> Value {
    serde_json::from_slice(&sample("virtcca-legacy-evidence.json")).unwrap()
}

fn log(evidence: &Value, kind: &str) -> Vec<u8> {
    let logs = evidence["evidence"]["logs"].as_array().unwrap();
    let log = logs.iter().find(|log| log["log_type"] == kind).unwrap();
    STANDARD.decode(log["log_data"].as_str().unwrap()).unwrap()
}

/// The extensible measurements: the four hashes behind label 44239 in the token.
fn rems(evidence: &Value) -> Vec<BankValue> {
    let token = STANDARD.decode(evidence["evidence"]["vcca_token"].as_str().unwrap()).unwrap();
    let label = [0x19, 0xac, 0xcf, 0x84];
    let at = token.windows(4).position(|window| window == label).unwrap() + 4;
    let hashes = token[at..].chunks_exact(34).take(4);
    hashes.map(|item| BankValue::from_slice(Bank::Sha256, &item[2..]).unwrap()).collect()
}

#[test]
fn a_virtcca_guests_logs_lead_to_its_extensible_measurements() {
    let evidence = evidence();
    let rems = rems(&evidence);
    let bytes = log(&evidence, "CCEL");
    let boot = EventLog::decode(&bytes).unwrap();
    assert_eq!(boot.events.len(), 98);
    assert!(boot.events.iter().all(|event| event.covers(Bank::Sha256).is_some()));
    let values = boot.replay(Registers::Measurement, Bank::Sha256).unwrap();
    assert_eq!(values, [(1, rems[0]), (2, rems[1]), (3, rems[2])].into());
    assert_eq!(boot.encode_area(bytes.len()), bytes);

    // The IMA log was sent along, but its kernel extended no register: of its two entries, one for PCR 4, none is attested.
    let text = log(&evidence, "ImaLog");
    let measurements = ima::Log::new(&text).unwrap();
    let paths: Vec<_> = measurements.entries().map(|entry| entry.unwrap().path.to_vec()).collect();
    assert_eq!(paths, [b"boot_aggregate".to_vec(), b"/root/test.sh".to_vec()]);
    let mut register =
        Register { pcr: 4, before: BankValue::zero(Bank::Sha256), attested: BankValue::zero(Bank::Sha256) };
    assert_eq!(register.attested, rems[3]);
    assert_eq!(measurements.attested(&[register.clone()], ExtendRule::PerBank), Ok(Some(1)));
    let entry = measurements.entries().nth(1).unwrap().unwrap();
    assert_eq!(entry.template_hash(Bank::Sha1).to_string(), "3cfbcaa5b0d1b69bf26c81fcdcc6bb6383eed765");
    register.attested.extend(entry.extension(Bank::Sha256, ExtendRule::PerBank).as_bytes());
    assert_eq!(measurements.attested(&[register], ExtendRule::PerBank), Ok(Some(2)));
}
