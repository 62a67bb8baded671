//! Logs must be what was measured.

use evidence::ima::LogWriter;
use evidence::tcg::{EventLog, EventType};
use verifier::logs::{self, Explained, LogReport, LogRules, Role};
use verifier::{Code, Refusal};

use crate::harness::*;

#[test]
fn t8_a_ccel_cut_short_at_any_offset_is_refused_and_never_panics() {
    let guest = Guest::usual();
    let log = guest.log().encode();
    for length in 0..log.len() {
        let result = guest.appraise_log(&log[..length], &references(), &strict());
        let (code, detail) = code(result);
        // At a boundary of events the log is whole, but not what was measured.
        let expected = [Code::LogMalformed, Code::LogMismatch, Code::RegisterUnexplained];
        assert!(expected.contains(&code), "{length}: {detail}");
    }
    guest.appraise_log(&log, &references(), &strict()).expect("the whole log");
}

#[test]
fn a_log_that_is_not_what_was_measured_is_refused() {
    let guest = Guest::usual();
    let refused = |change: &dyn Fn(&mut Guest)| {
        let mut liar = guest.clone();
        change(&mut liar);
        code(guest.appraise_log(&liar.log().encode(), &references(), &strict())).0
    };
    assert_eq!(refused(&|liar| liar.remove("MokList")), Code::LogMismatch);
    assert_eq!(refused(&|liar| liar.boot.swap(0, 1)), Code::LogMismatch);
    assert_eq!(refused(&|liar| liar.at("kernel").content = b"kernel 2".to_vec()), Code::LogMismatch);
    assert_eq!(refused(&|liar| liar.at("driver").register = 1), Code::LogMismatch);
    assert_eq!(refused(&|liar| liar.boot.push(separator(3))), Code::LogMismatch);
    assert_eq!(refused(&|liar| liar.boot.push(separator(4))), Code::LogMismatch);
}

#[test]
fn text_and_variables_that_are_not_what_was_measured_are_refused() {
    let guest = Guest::usual();
    for name in ["SecureBoot", "BootOrder", "linux", "command line", "authority", "partitions", "separator"] {
        let mut log = guest.log();
        let at = guest.boot.iter().position(|event| event.name == name).unwrap();
        *log.events[at].data.to_mut().iter_mut().rev().nth(1).unwrap() ^= 1;
        let (code, detail) = code(guest.appraise_log(&log.encode(), &references(), &strict()));
        assert_eq!(code, Code::LogMismatch, "{name}: {detail}");
    }
}

/// What was found in which role.
fn roles(report: &LogReport) -> Vec<(Role, Vec<&str>)> {
    let components = report.boot.as_ref().unwrap().components.iter();
    components.map(|(role, found)| (*role, found.iter().map(|found| &*found.digest).collect())).collect()
}

/// Whoever sends the log chooses the types, which nothing proves.
#[test]
fn an_event_under_another_type_gains_nothing() {
    let guest = Guest::usual();
    let report = guest.appraise(&references(), &strict()).unwrap();
    let expected = roles(&report);
    let types = guest.boot.iter().map(|event| event.kind).chain([EventType::EVENT_TAG, EventType::POST_CODE]);
    for kind in types {
        for (at, event) in guest.boot.iter().enumerate().filter(|(_, event)| event.kind != kind) {
            let mut log = guest.log();
            log.events[at].kind = kind;
            if let Ok(report) = guest.appraise_log(&log.encode(), &references(), &strict()) {
                // Types that lead to the same references: what is known as what does not change.
                assert_eq!(roles(&report), expected, "{} as {kind}", event.name);
            }
        }
    }
}

#[test]
fn a_log_may_not_speak_of_registers_that_nothing_attests() {
    for register in [0, 5, 31] {
        let mut guest = Guest::usual();
        guest.boot.push(separator(register));
        assert_eq!(guest.refused().0, Code::BootSequence, "register {register}");
    }
}

#[test]
fn records_that_extend_nothing_prove_nothing_and_disturb_nothing() {
    let guest = Guest::usual();
    let mut log = guest.log();
    log.remark(0, &b"SP800-155 Event\0"[..]);
    log.events[20].kind = EventType::NO_ACTION;
    assert_eq!(code(guest.appraise_log(&log.encode(), &references(), &strict())).0, Code::LogMismatch);
    log.events[20].kind = guest.boot[20].kind;
    guest.appraise_log(&log.encode(), &references(), &strict()).expect("a remark at the end");
}

#[test]
fn t9_rem_3_that_is_not_zero_is_refused_without_an_ima_log() {
    let guest = Guest { ima: None, ..Guest::with_ima() };
    let (code, detail) = guest.refused();
    assert_eq!(code, Code::RegisterUnexplained);
    assert!(detail.contains("extensible measurement 3") && detail.contains("IMA"), "{detail}");
}

#[test]
fn registers_are_explained_without_logs_only_by_zero_by_the_reference_or_by_the_policys_leave() {
    let guest = Guest { boot_log: false, ..Guest::usual() };
    let judge = |pinned, rules: &LogRules| -> Result<_, Refusal> {
        logs::attest(None, None, HASH, &guest.rems())?.judge(None, pinned, rules)
    };
    let default = LogRules::default();
    assert_eq!(code(judge([false; 4], &default)).0, Code::RegisterUnexplained);
    assert_eq!(code(judge([true, true, false, true], &default)).0, Code::RegisterUnexplained);
    use Explained::{Reference, Unexplained, Zero};
    let pinned = judge([true, true, true, false], &default).unwrap();
    assert_eq!(pinned.registers, [Reference, Reference, Reference, Zero]);
    let allowed = judge([false; 4], &LogRules { unexplained_registers: true, ..default }).unwrap();
    assert_eq!(allowed.registers, [Unexplained, Unexplained, Unexplained, Zero]);
}

#[test]
fn a_register_may_be_extended_by_the_boot_and_then_by_ima() {
    let mut guest = Guest::with_ima();
    guest.boot.push(measured("application", 4, EventType::EFI_ACTION, b"x", b"x"));
    let mut references = references_with_ima();
    references.boot.as_mut().unwrap().other.extend(set(b"x"));
    let report = guest.appraise(&references, &strict_ima()).unwrap();
    assert_eq!(report.registers[3], Explained::BootAndIma);
}

#[test]
fn a_log_with_more_events_than_any_boot_is_refused() {
    let mut log = EventLog::crypto_agile(1, &[evidence::bank::Bank::Sha256]);
    for _ in 0..=10_000 {
        log.measure(1, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
    }
    let guest = Guest::usual();
    let (code, detail) = code(guest.appraise_log(&log.encode(), &references(), &strict()));
    assert_eq!(code, Code::LogMalformed);
    assert!(detail.contains("10001 events"), "{detail}");
}

#[test]
fn an_ima_log_that_is_none_is_refused() {
    let mut guest = Guest::with_ima();
    guest.ima = Some(b"garbage".to_vec());
    assert_eq!(code(guest.appraise(&references_with_ima(), &strict_ima())).0, Code::LogMalformed);
    let mut liar = LogWriter::default();
    liar.violate(4, b"/usr/bin/one");
    guest.ima = Some(liar.finish());
    assert_eq!(code(guest.appraise(&references_with_ima(), &strict_ima())).0, Code::LogMismatch);
}
