use proptest::prelude::*;

use super::*;
use crate::bank::{Bank, BankValue};

const BANKS: [Bank; 2] = [Bank::Sha1, Bank::Sha256];

/// A boot through GRUB in a confidential guest, one event of each kind.
fn boot() -> EventLog<'static> {
    let mut log = EventLog::crypto_agile(1, &BANKS);
    log.remark(0, Event::startup_locality(0));
    let secure_boot =
        Variable { vendor: Variable::GLOBAL, name: "SecureBoot".to_owned(), value: &[1] }.encode();
    log.measure(1, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure_boot, secure_boot.clone());
    let order = Variable { vendor: Variable::GLOBAL, name: "BootOrder".to_owned(), value: &[1, 0] };
    log.measure(1, EventType::EFI_VARIABLE_BOOT, order.value, order.encode());
    log.measure(1, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
    let image = Image { location: 1, length: 2, link_time_address: 0, device_path: &file_path("\\EFI\\G") };
    log.measure(2, EventType::EFI_BOOT_SERVICES_APPLICATION, b"authenticode", image.encode());
    let command = GrubText::Command(b"linux /vmlinuz");
    log.measure(3, EventType::IPL, command.measured(), command.encode());
    log.measure(3, EventType::IPL, b"kernel", &b"/vmlinuz\0"[..]);
    let text = GrubText::KernelCommandLine(b"/vmlinuz quiet");
    log.measure(3, EventType::IPL, text.measured(), text.encode());
    log.measure(3, EventType::EVENT_TAG, b"initrd", b"\xec\x22\x3b\x8f\x02\0\0\0ok".to_vec());
    let action = b"Exit Boot Services Invocation";
    log.measure(2, EventType::EFI_ACTION, action, &action[..]);
    log
}

fn file_path(name: &str) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let length = u16::try_from(name.len() + 4).unwrap().to_le_bytes();
    [&[4, 4][..], &length, &name, &[0x7f, 0xff, 4, 0]].concat()
}

/// The header, and one event of `event`.
fn with_event(event: &[u8]) -> Vec<u8> {
    [EventLog::crypto_agile(0, &BANKS).encode(), event.to_vec()].concat()
}

fn event(register: u32, kind: EventType, digests: &[(u16, usize)], data: usize) -> Vec<u8> {
    let count = u32::try_from(digests.len()).unwrap();
    let mut bytes = [register, kind.0, count].map(u32::to_le_bytes).concat();
    for (algorithm, size) in digests {
        bytes.extend_from_slice(&algorithm.to_le_bytes());
        bytes.extend(vec![0x5a; *size]);
    }
    bytes.extend_from_slice(&u32::try_from(data).unwrap().to_le_bytes());
    bytes.extend(vec![0xa5; data]);
    bytes
}

#[test]
fn reads_what_it_writes_alone_and_in_an_area_of_either_padding() {
    let log = boot();
    let bytes = log.encode();
    assert_eq!(EventLog::decode(&bytes).unwrap(), log);
    assert_eq!(EventLog::decode(&log.encode_area(0x1_0000)).unwrap(), log);
    assert_eq!(EventLog::decode(&[&bytes[..], &[0; 100]].concat()).unwrap(), log);
    assert_eq!(EventLog::decode(&[&bytes[..], &[0xff]].concat()).unwrap(), log);
}

#[test]
fn reads_logs_with_sha1_only() {
    let mut log = EventLog::sha1();
    log.remark(0, &b"Spec ID Event02\0"[..]);
    log.measure(4, EventType::EFI_ACTION, b"x", &b"x"[..]);
    let bytes = log.encode();
    assert_eq!(EventLog::decode(&bytes).unwrap(), log);
    let mut expected = BankValue::zero(Bank::Sha1);
    expected.extend(Bank::Sha1.hash([&b"x"[..]]).as_bytes());
    assert_eq!(log.replay(Registers::Pcr, Bank::Sha1).unwrap(), [(4, expected)].into());
    let missing = ReplayError::MissingDigest { event: 1, bank: Bank::Sha256 };
    assert_eq!(log.replay(Registers::Pcr, Bank::Sha256), Err(missing));
}

#[test]
fn a_log_cut_short_anywhere_is_refused_or_is_a_shorter_log() {
    let log = boot();
    let bytes = log.encode();
    let mut boundaries = 0;
    for length in 0..bytes.len() {
        match EventLog::decode(&bytes[..length]) {
            Ok(shorter) => {
                boundaries += 1;
                assert!(shorter.events.len() < log.events.len(), "{length}");
                assert_eq!(shorter.events[..], log.events[..shorter.events.len()], "{length}");
            }
            Err(error) => {
                assert!(matches!(error, LogError::Empty | LogError::Truncated { .. }), "{length}: {error}");
            }
        }
    }
    // Events boundaries, and places where the rest of a record is zeros, that is, a register number of 0.
    assert!((log.events.len()..=log.events.len() + 4).contains(&boundaries), "{boundaries}");
}

#[test]
fn refuses_logs_that_lie_about_their_form() {
    let (sha1, sha256) = ((4, 20), (0xb, 32));
    let kind = EventType::IPL;
    for (bytes, expected) in [
        (Vec::new(), "is empty"),
        (vec![0xff; 64], "is empty"),
        (vec![0; 64], "is empty"),
        (vec![1; MAX_LOG_SIZE + 1], "at most"),
        (with_event(&event(1, kind, &[], 0)), "has 0 digests"),
        (with_event(&event(1, kind, &[sha256; 9], 0)), "has 9 digests"),
        (with_event(&event(1, kind, &[sha256, sha1, sha256], 0)), "two digests of algorithm 0x000b"),
        (with_event(&event(1, kind, &[(0xc, 48)], 0)), "does not declare"),
        (with_event(&event(32, kind, &[sha256], 0)), "extends register 32"),
        (with_event(&event(1, kind, &[sha256], MAX_EVENT_SIZE + 1)), "at most 1048576"),
        (
            [with_event(&event(1, kind, &[sha256], 0)), vec![0xff, 0xff, 0]].concat(),
            "cut short in its register",
        ),
    ] {
        let error = EventLog::decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}: {expected}");
    }
    assert!(EventLog::decode(&with_event(&event(u32::MAX, EventType::NO_ACTION, &[sha256], 3))).is_ok());
}

#[test]
fn refuses_headers_that_break_the_rules() {
    let good = EventLog::crypto_agile(0, &BANKS).encode();
    // Offsets in the record: digest 8, data 32; in the data: number of algorithms 24, algorithms 28, vendor 36.
    for (offset, value, expected) in [
        (8, 1, "digest is not zero"),
        (32 + 24, 0, "number of algorithms"),
        (32 + 24, 9, "number of algorithms"),
        (32 + 24, 3, "cut short"),
        (32 + 24, 1, "cut short"),
        (32 + 30, 21, "declares a size"),
        (32 + 28, 0xb, "declares a size"),
        (32 + 36, 1, "cut short"),
    ] {
        let mut bytes = good.clone();
        bytes[offset] = value;
        let error = EventLog::decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "byte {offset}: {error}");
    }
    let mut longer = good.clone();
    longer[28] += 1;
    longer.push(7);
    assert!(EventLog::decode(&longer).unwrap_err().to_string().contains("something follows"));
    let twice = EventLog::crypto_agile(0, &[Bank::Sha256, Bank::Sha256]).encode();
    assert!(EventLog::decode(&twice).unwrap_err().to_string().contains("twice"));
}

#[test]
fn keeps_digests_of_algorithms_that_it_does_not_know() {
    let mut log = EventLog::crypto_agile(0, &[Bank::Sha256]);
    log.header.as_mut().unwrap().algorithms.push((0x27, 5));
    log.measure(1, EventType::IPL, b"x", &b"x"[..]);
    log.events[0].digests.push(EventDigest { algorithm: 0x27, value: vec![7; 5].into() });
    let bytes = log.encode();
    let read = EventLog::decode(&bytes).unwrap();
    assert_eq!(read, log);
    assert!(read.replay(Registers::Measurement, Bank::Sha256).is_ok());
}

#[test]
fn every_bank_and_register_is_replayed_from_its_own_start() {
    let mut log = EventLog::crypto_agile(0, &Bank::ALL);
    log.remark(0, Event::startup_locality(3));
    for register in [0, 4, 16, 17, 22, 23] {
        log.measure(register, EventType::EFI_ACTION, b"x", &b"x"[..]);
    }
    for bank in Bank::ALL {
        let values = log.replay(Registers::Pcr, bank).unwrap();
        let extended = |mut start: BankValue| {
            start.extend(bank.hash([&b"x"[..]]).as_bytes());
            start
        };
        assert_eq!(values[&0], extended(BankValue::locality(bank, 3)));
        for (register, start) in [
            (4, BankValue::zero(bank)),
            (16, BankValue::zero(bank)),
            (17, BankValue::ones(bank)),
            (22, BankValue::ones(bank)),
            (23, BankValue::zero(bank)),
        ] {
            assert_eq!(values[&register], extended(start), "{bank} {register}");
        }
        let measurement = log.replay(Registers::Measurement, bank).unwrap();
        assert!(measurement.values().all(|value| *value == extended(BankValue::zero(bank))));
    }
}

#[test]
fn a_hardware_root_of_trust_leaves_locality_4_behind() {
    let mut log = EventLog::crypto_agile(0, &BANKS);
    log.measure(0, EventType::EFI_HCRTM_EVENT, b"crtm", &b"HCRTM"[..]);
    let mut expected = BankValue::locality(Bank::Sha256, 4);
    expected.extend(Bank::Sha256.hash([&b"crtm"[..]]).as_bytes());
    assert_eq!(log.replay(Registers::Pcr, Bank::Sha256).unwrap()[&0], expected);
}

#[test]
fn a_startup_locality_that_is_impossible_late_or_given_twice_is_refused() {
    let refused = |log: &EventLog<'_>| {
        let result = log.replay(Registers::Pcr, Bank::Sha256);
        assert!(matches!(result, Err(ReplayError::Locality { .. })), "{result:?}");
    };
    let mut late = EventLog::crypto_agile(0, &BANKS);
    late.measure(0, EventType::S_CRTM_VERSION, b"1", &b"1"[..]);
    late.remark(0, Event::startup_locality(3));
    refused(&late);
    let mut twice = EventLog::crypto_agile(0, &BANKS);
    twice.remark(0, Event::startup_locality(3));
    twice.remark(0, Event::startup_locality(0));
    refused(&twice);
    let mut impossible = EventLog::crypto_agile(0, &BANKS);
    impossible.remark(0, Event::startup_locality(7));
    refused(&impossible);
}

#[test]
fn knows_which_digests_cover_their_data() {
    use Covers::{Data, GrubText, Other, VariableValue};
    let log = boot();
    let covers: Vec<_> = log.events[1..].iter().map(|event| event.covers(Bank::Sha256)).collect();
    let expected = [Data, VariableValue, Data, Other, GrubText, Other, GrubText, Other, Data].map(Some);
    assert_eq!(covers, expected);
    for mut event in log.events.into_iter().skip(1) {
        let before = event.covers(Bank::Sha256);
        let last = event.data.len() - 2;
        event.data.to_mut()[last] ^= 1;
        let after = event.covers(Bank::Sha256);
        let described = before == Some(Other);
        assert_eq!(after, described.then_some(Other), "{event:?}");
    }
}

#[test]
fn a_variable_that_is_none_is_no_variable_even_if_its_digest_is_right() {
    let mut log = EventLog::crypto_agile(0, &BANKS);
    for kind in [EventType::EFI_VARIABLE_DRIVER_CONFIG, EventType::EFI_VARIABLE_BOOT] {
        log.measure(1, kind, b"SecureBoot", &b"SecureBoot"[..]);
    }
    assert!(log.events.iter().all(|event| event.covers(Bank::Sha256).is_none()));
}

#[test]
fn data_is_read_as_its_type_says() {
    let log = boot();
    let data: Vec<_> = log.events.iter().map(Event::decode_data).collect();
    assert_eq!(data[0], EventData::StartupLocality(0));
    assert!(matches!(&data[1], EventData::Variable(variable) if variable.name == "SecureBoot"));
    assert_eq!(data[3], EventData::Separator(0));
    assert!(matches!(&data[4], EventData::Image(image) if image.file().as_deref() == Some("\\EFI\\G")));
    assert_eq!(data[5], EventData::Grub(GrubText::Command(b"linux /vmlinuz")));
    assert_eq!(data[6], EventData::Name(b"/vmlinuz"));
    assert_eq!(data[8], EventData::Tagged { id: 0x8f3b_22ec, content: b"ok" });
    assert_eq!(data[9], EventData::Text("Exit Boot Services Invocation"));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for log in [bytes.clone(), with_event(&bytes)] {
            if let Ok(log) = EventLog::decode(&log) {
                for event in &log.events {
                    let _ = (event.decode_data(), event.covers(Bank::Sha256));
                }
                let _ = log.replay(Registers::Pcr, Bank::Sha256);
                let again = log.encode();
                prop_assert_eq!(EventLog::decode(&again), Ok(log));
            }
        }
    }
}
