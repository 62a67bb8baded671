//! Any bytes as an event log: a clear refusal, or a log that survives a round trip and is replayed without a panic.

#![no_main]

use evidence::bank::Bank;
use evidence::tcg::{EventLog, Registers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // The fuzzer should not have to write headers.
    let header = EventLog::crypto_agile(1, &[Bank::Sha1, Bank::Sha256]).encode();
    check(&[&header, bytes].concat());
});

fn check(bytes: &[u8]) {
    let log = match EventLog::decode(bytes) {
        Ok(log) => log,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 1000 && !message.contains(char::is_control), "{message}");
            return;
        }
    };
    let encoded = log.encode();
    assert!(bytes.starts_with(&encoded), "what was read is what was written");
    for event in &log.events {
        let _ = event.decode_data();
        for bank in Bank::ALL {
            let covers = event.covers(bank);
            assert!(covers.is_none() || event.digest(bank).is_some());
        }
    }
    for bank in Bank::ALL {
        for registers in [Registers::Pcr, Registers::Measurement] {
            if let Ok(values) = log.replay(registers, bank) {
                assert!(values.len() <= 32);
            }
        }
    }
}
