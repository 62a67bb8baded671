//! Every byte of the logs of a valid guest, changed: it is refused, or the byte is one that proves nothing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use evidence::tcg::{Covers, EventLog, EventType};
use verifier::logs::{BootReport, LogReport, Role};

use crate::harness::*;

/// The changes that each byte goes through.
const FLIPS: [u8; 4] = [0x01, 0x80, 0xff, 0x20];

/// Appraises every mutant; returns how many there are, and the offsets of those that are accepted.
fn survivors(
    log: &[u8],
    appraise: impl Fn(&[u8]) -> Option<LogReport>,
) -> (usize, BTreeMap<usize, LogReport>) {
    let mut survivors = BTreeMap::new();
    let mut mutants = 0;
    for offset in 0..log.len() {
        for flip in FLIPS {
            let mut mutant = log.to_vec();
            mutant[offset] ^= flip;
            mutants += 1;
            let result = catch_unwind(AssertUnwindSafe(|| appraise(&mutant)));
            if let Some(report) = result.unwrap_or_else(|_| panic!("byte {offset} ^ {flip:#x} panics")) {
                survivors.insert(offset, report);
            }
        }
    }
    (mutants, survivors)
}

/// The bytes of the encoded log that nothing proves: in the header, digests of other banks, and descriptions.
fn unproven(guest: &Guest) -> Vec<bool> {
    let log = guest.log();
    let header = EventLog { events: Vec::new(), ..log.clone() }.encode().len();
    let mut unproven = vec![false; header];
    // Register of the header's record; class, version and size of a pointer.
    for range in [0..4, 48..56] {
        unproven[range].fill(true);
    }
    for event in &log.events {
        unproven.extend([false; 12]);
        for digest in &event.digests {
            let attested = digest.algorithm == evidence::bank::Bank::Sha256.tcg();
            unproven.extend([false; 2]);
            unproven.extend(vec![!attested; digest.value.len()]);
        }
        let described = event.covers(evidence::bank::Bank::Sha256) == Some(Covers::Other)
            && event.kind != EventType::EVENT_TAG;
        unproven.extend([false; 4]);
        unproven.extend(vec![described; event.data.len()]);
    }
    unproven
}

#[test]
fn no_changed_byte_of_a_boot_log_is_accepted_unless_nothing_proves_it() {
    let guest = Guest::usual();
    let log = guest.log().encode();
    let expected = guest.appraise(&references(), &strict()).unwrap().boot.unwrap();
    let unproven = unproven(&guest);
    assert_eq!(unproven.len(), log.len());
    let (references, rules) = (references(), strict());
    let (mutants, survivors) = survivors(&log, |mutant| guest.appraise_log(mutant, &references, &rules).ok());
    for (offset, report) in &survivors {
        let context = || format!("byte {offset} of {}: {}", log.len(), place(&guest, *offset));
        let boot = report.boot.as_ref().unwrap();
        assert!(unproven[*offset] || same_role(boot, &expected), "{}", context());
        assert_eq!(
            (&boot.kernel, boot.secure_boot),
            (&expected.kernel, expected.secure_boot),
            "{}",
            context()
        );
        assert_eq!(boot.command_line, expected.command_line, "{}", context());
    }
    println!("boot log: {mutants} mutants of {} bytes, {} bytes survive", log.len(), survivors.len());
}

/// Whether everything is still known as what it was: a type that leads to the same references, or the name of a variable
/// of which only the value is measured.
fn same_role(boot: &BootReport, expected: &BootReport) -> bool {
    let roles = |boot: &BootReport| {
        let components = boot.components.iter();
        components
            .map(|(role, found)| (*role, found.iter().map(|found| found.digest.clone()).collect()))
            .collect::<Vec<(Role, Vec<String>)>>()
    };
    (boot.events, roles(boot)) == (expected.events, roles(expected))
}

/// The event in which a byte is.
fn place(guest: &Guest, offset: usize) -> String {
    let mut log = guest.log();
    let events = std::mem::take(&mut log.events);
    let mut start = log.encode().len();
    for (event, measured) in events.into_iter().zip(&guest.boot) {
        let header = EventLog { events: Vec::new(), ..log.clone() }.encode().len();
        let length = EventLog { events: vec![event], ..log.clone() }.encode().len() - header;
        if offset < start + length {
            return format!("{} + {}", measured.name, offset.wrapping_sub(start));
        }
        start += length;
    }
    "behind the last event".to_owned()
}

#[test]
fn no_changed_byte_of_an_ima_log_is_accepted_but_the_sha1_hashes_that_its_register_does_not_know() {
    let mut guest = Guest::with_ima();
    let log = guest.ima.clone().unwrap();
    let expected = guest.appraise(&references_with_ima(), &strict_ima()).unwrap();
    let (mutants, survivors) = survivors(&log, |mutant| {
        let guest = Guest { ima: Some(mutant.to_vec()), ..guest.clone() };
        guest.appraise(&references_with_ima(), &strict_ima()).ok()
    });
    let mut unproven = Vec::new();
    let mut start = 0;
    for (index, entry) in evidence::ima::Log::new(&log).unwrap().entries().enumerate() {
        let entry = entry.unwrap();
        // Register, hash, name, data: digest "sha256:" NUL and 32 bytes, path and NUL, all but hash with a length.
        let length = 4 + 20 + 4 + 6 + 4 + (4 + 40) + (4 + entry.path.len() + 1);
        unproven.extend(start + 4..start + 24);
        if index == 0 {
            // The boot aggregate of a machine without a TPM is in no register, and stands for nothing.
            unproven.extend(start..start + length);
        }
        start += length;
    }
    assert_eq!(start, log.len());
    for (offset, report) in &survivors {
        assert!(unproven.contains(offset), "byte {offset} of {}", log.len());
        assert_eq!(report.ima.as_ref().unwrap().paths, expected.ima.as_ref().unwrap().paths, "byte {offset}");
    }
    guest.ima = None;
    println!("IMA log: {mutants} mutants of {} bytes, {} bytes survive", log.len(), survivors.len());
}
