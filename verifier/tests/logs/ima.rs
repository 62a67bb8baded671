//! What was run.

use evidence::bank::{Bank, BankValue};
use evidence::ima::{FileDigest, LogWriter, Template};
use verifier::Code;
use verifier::Refusal;
use verifier::logs::{Explained, LogReferences, LogReport, LogRules};

use crate::harness::*;

/// A guest that also runs `path` with `content`.
fn runs(path: &str, content: &[u8]) -> Guest {
    let mut log = LogWriter::default();
    log.measure(4, Template::ImaNg, sha256(digest(content).as_bytes()), path.as_bytes(), &[]);
    let mut guest = Guest::usual();
    guest.set_ima(log);
    guest
}

fn appraise(guest: &Guest) -> Result<LogReport, Refusal> {
    guest.appraise(&references_with_ima(), &strict_ima())
}

#[test]
fn accepts_the_files_that_were_expected_and_names_them() {
    let report = appraise(&Guest::with_ima()).unwrap();
    assert_eq!(report.registers[3], Explained::Ima);
    let ima = report.ima.unwrap();
    assert_eq!((ima.attested, ima.files, ima.violations, ima.extend_rule), (3, 2, 0, "per_bank"));
    let expected = serde_json::json!({ "/usr/bin/one": true, "/usr/bin/two": true });
    assert_eq!(serde_json::Value::Object(ima.secgear()), expected);
}

/// Linux before 5.8 extends every bank with the SHA-1 hash, padded.
#[test]
fn an_older_kernels_log_is_accepted_and_the_report_says_how_it_extends() {
    let mut guest = Guest::with_ima();
    let rule = |guest: &Guest| {
        let report = guest.appraise(&references_with_ima(), &strict_ima()).unwrap();
        report.ima.unwrap().extend_rule
    };
    assert_eq!(rule(&guest), "per_bank");
    let log = guest.ima.clone().unwrap();
    let entries = evidence::ima::Log::new(&log).unwrap();
    let padded = |entry: evidence::ima::Entry<'_>| {
        BankValue::padded(Bank::Sha256, entry.template_hash(Bank::Sha1).as_bytes()).as_bytes().to_vec()
    };
    let entries = entries.entries().map(Result::unwrap).filter(|entry| entry.pcr == 4);
    guest.ima_extensions = entries.map(padded).collect();
    assert_eq!(rule(&guest), "padded_sha1");
    guest.ima_extensions[0][0] ^= 1;
    assert_eq!(code(guest.appraise(&references_with_ima(), &strict_ima())).0, Code::LogMismatch);
}

#[test]
fn t9_an_ima_log_that_policy_demands_and_that_is_absent_is_refused() {
    let guest = Guest::usual();
    let mut demanded = LogRules::default();
    demanded.ima.required = true;
    assert_eq!(code(guest.appraise(&references(), &demanded)).0, Code::LogMissing);
    let by_reference = guest.appraise(&references_with_ima(), &LogRules::default());
    assert_eq!(code(by_reference).0, Code::LogMissing);
}

#[test]
fn t9_an_ima_log_of_which_nothing_is_attested_is_as_good_as_none() {
    let mut elsewhere = LogWriter::default();
    elsewhere.measure(10, Template::ImaNg, sha256(&[1; 32]), b"/usr/bin/one", &[]);
    let mut only_after_the_token = LogWriter::default();
    only_after_the_token.measure(4, Template::ImaNg, sha256(&[1; 32]), b"/usr/bin/one", &[]);
    for log in [elsewhere, only_after_the_token, LogWriter::default()] {
        let guest = Guest { ima: Some(log.finish()), ..Guest::usual() };
        assert_eq!(code(appraise(&guest)).0, Code::LogMissing);
        let indifferent = guest.appraise(&references(), &strict()).unwrap();
        assert_eq!(indifferent.ima, None, "it is neither for nor against the guest");
    }
}

#[test]
fn a_file_that_nobody_registered_is_refused_and_so_is_a_known_one_elsewhere() {
    for (path, content) in
        [("/usr/bin/one", &b"another"[..]), ("/tmp/one", b"/usr/bin/one"), ("/usr/bin/one", b"/usr/bin/two")]
    {
        let (code, detail) = code(appraise(&runs(path, content)));
        assert_eq!(code, Code::ImaEntryUnknown, "{path}");
        assert!(detail.contains(path) && detail.contains("sha256:"), "{detail}");
    }
    appraise(&runs("/usr/bin/one", b"/usr/bin/one")).expect("the known file at its path");
}

#[test]
fn the_digest_of_fs_verity_is_another_digest() {
    let content = digest(b"/usr/bin/one");
    for (verity, accepted) in [(false, true), (true, false)] {
        let mut log = LogWriter::default();
        let digest = FileDigest { verity, ..sha256(content.as_bytes()) };
        log.measure(4, Template::ImaNgV2, digest, b"/usr/bin/one", &[]);
        let mut guest = Guest::usual();
        guest.set_ima(log);
        assert_eq!(appraise(&guest).is_ok(), accepted, "{verity}");
    }
}

#[test]
fn every_unknown_file_counts_and_the_first_are_named() {
    let mut log = LogWriter::default();
    for index in 0..9 {
        log.measure(4, Template::ImaNg, sha256(&[7; 32]), format!("/{index}").as_bytes(), &[]);
    }
    let mut guest = Guest::usual();
    guest.set_ima(log);
    let (_, detail) = code(appraise(&guest));
    assert!(detail.contains("entry 4: \"/4\"") && detail.ends_with("; and 4 more"), "{detail}");
}

#[test]
fn violations_are_refused_unless_every_policy_accepts_them() {
    let mut log = LogWriter::default();
    log.violate(4, b"/usr/bin/one");
    log.measure(4, Template::ImaNg, sha256(digest(b"/usr/bin/one").as_bytes()), b"/usr/bin/one", &[]);
    let mut guest = Guest::usual();
    guest.set_ima(log);
    assert_eq!(code(appraise(&guest)).0, Code::ImaViolation);
    let mut rules = strict_ima();
    rules.ima.violations = true;
    let ima = guest.appraise(&references_with_ima(), &rules).unwrap().ima.unwrap();
    assert_eq!((ima.violations, ima.files), (1, 2));
    let both = LogRules::strictest([&rules, &strict_ima()]);
    assert_eq!(code(guest.appraise(&references_with_ima(), &both)).0, Code::ImaViolation);

    let mut log = LogWriter::default();
    log.violate(4, b"boot_aggregate");
    guest.set_ima(log);
    assert_eq!(
        code(appraise(&guest)).0,
        Code::ImaViolation,
        "zeros are no aggregate where they are a violation"
    );
}

#[test]
fn a_boot_aggregate_is_zero_or_known() {
    let with_aggregate = |value: &[u8; 32]| {
        let mut log = LogWriter::default();
        log.measure(4, Template::ImaNg, sha256(value), b"boot_aggregate", &[]);
        log.measure(4, Template::ImaNg, sha256(digest(b"/usr/bin/one").as_bytes()), b"/usr/bin/one", &[]);
        let mut guest = Guest::usual();
        guest.set_ima(log);
        guest
    };
    appraise(&with_aggregate(&[0; 32])).expect("no TPM");
    assert_eq!(code(appraise(&with_aggregate(&[1; 32]))).0, Code::ImaEntryUnknown);
    let mut references = references_with_ima();
    let known = format!("sha256:{}", "01".repeat(32)).parse().unwrap();
    references.ima.as_mut().unwrap().boot_aggregate.push(known);
    with_aggregate(&[1; 32]).appraise(&references, &strict_ima()).expect("the known aggregate");
}

#[test]
fn an_entry_for_a_register_that_nothing_attests_is_refused() {
    let mut log = LogWriter::default();
    log.measure(10, Template::ImaNg, sha256(digest(b"/usr/bin/one").as_bytes()), b"/usr/bin/one", &[]);
    log.measure(4, Template::ImaNg, sha256(digest(b"/usr/bin/one").as_bytes()), b"/usr/bin/one", &[]);
    let mut guest = Guest::usual();
    guest.set_ima(log);
    assert_eq!(code(appraise(&guest)).0, Code::ImaEntryUnattested);
}

/// Known files are not looked at one by one where their paths are not reported any more.
#[test]
fn behind_a_thousand_known_files_nothing_passes_for_one_more() {
    const FILES: usize = 2000;
    let one = digest(b"/usr/bin/one");
    let measure = |log: &mut LogWriter, pcr: u32, path: &str| {
        log.measure(pcr, Template::ImaNg, sha256(one.as_bytes()), path.as_bytes(), &[]);
    };
    let guest = |pcr: u32, path: &str| {
        let mut log = LogWriter::default();
        (0..FILES).for_each(|_| measure(&mut log, 4, "/usr/bin/one"));
        measure(&mut log, pcr, path);
        let mut guest = Guest::usual();
        guest.set_ima(log);
        guest
    };
    let mut references = references_with_ima();
    let known = format!("sha256:{one}").parse().unwrap();
    references.ima.as_mut().unwrap().files.insert("boot_aggregate", &known);
    let judge = |guest: &Guest| guest.appraise(&references, &strict_ima());
    assert_eq!(judge(&guest(4, "/usr/bin/one")).unwrap().ima.unwrap().files, FILES + 1);
    assert_eq!(code(judge(&guest(10, "/usr/bin/one"))).0, Code::ImaEntryUnattested);
    assert_eq!(code(judge(&guest(4, "boot_aggregate"))).0, Code::ImaEntryUnknown);
    assert_eq!(code(judge(&guest(4, "/usr/bin/two"))).0, Code::ImaEntryUnknown);
    // A violation extends with ones, whatever its data says.
    let mut violated = guest(4, "/usr/bin/one");
    let list = violated.ima.as_mut().unwrap();
    let last = list.len() / (FILES + 1) * FILES;
    list[last + 4..last + 24].fill(0);
    *violated.ima_extensions.last_mut().unwrap() = vec![0xff; 32];
    assert_eq!(code(judge(&violated)).0, Code::ImaViolation);
}

#[test]
fn entries_that_follow_the_attested_ones_are_not_counted() {
    let mut guest = Guest::with_ima();
    let mut after = LogWriter::default();
    after.measure(4, Template::ImaNg, sha256(&[9; 32]), b"/not/yet/attested", &[]);
    guest.ima.as_mut().unwrap().extend(after.finish());
    let ima = appraise(&guest).unwrap().ima.unwrap();
    assert_eq!(ima.attested, 3);
    assert!(!ima.secgear().contains_key("/not/yet/attested"));
}

#[test]
fn excluded_paths_are_not_judged_and_are_counted() {
    let mut references = references_with_ima();
    references.ima.as_mut().unwrap().exclude = vec!["/var/log/*".to_owned().try_into().unwrap()];
    let guest = |path| runs(path, b"anything");
    let ima = guest("/var/log/messages").appraise(&references, &strict_ima()).unwrap().ima.unwrap();
    assert_eq!((ima.excluded, ima.files), (1, 1));
    for path in ["/var/logs", "/var/log", "/var/log/../../usr/bin/evil", "var/log/x"] {
        let result = guest(path).appraise(&references, &strict_ima());
        assert_eq!(code(result).0, Code::ImaEntryUnknown, "{path}");
    }
}

#[test]
fn a_path_that_is_not_text_is_in_no_reference() {
    let mut log = LogWriter::default();
    log.measure(4, Template::ImaNg, sha256(&[3; 32]), b"/\xff", &[]);
    let mut guest = Guest::usual();
    guest.set_ima(log);
    let mut references = references_with_ima();
    let lossy = format!("sha256:{}", "03".repeat(32)).parse().unwrap();
    references.ima.as_mut().unwrap().files.insert("/\u{fffd}", &lossy);
    assert_eq!(code(guest.appraise(&references, &strict_ima())).0, Code::ImaEntryUnknown);
}

#[test]
fn a_list_without_paths_counts_only_if_policy_names_it() {
    let guest = runs("/anywhere", b"listed");
    let list = [("digest_list_file".to_owned(), set(b"listed"))].into();
    let references = LogReferences { untyped: list, ..references() };
    let mut rules = strict();
    rules.ima.untyped_lists.insert("digest_list_file".to_owned());
    let ima = guest.appraise(&references, &rules).unwrap().ima.unwrap();
    assert_eq!((ima.untyped, ima.files), (1, 1));
    assert_eq!(code(guest.appraise(&references, &strict_ima())).0, Code::LogReferenceMissing);
    let unlisted = runs("/anywhere", b"unlisted").appraise(&references, &rules);
    assert_eq!(code(unlisted).0, Code::ImaEntryUnknown);

    let mut log = LogWriter::default();
    let verity = digest(b"listed");
    let verity = FileDigest { verity: true, ..sha256(verity.as_bytes()) };
    log.measure(4, Template::ImaNgV2, verity, b"/anywhere", &[]);
    let mut guest = Guest::usual();
    guest.set_ima(log);
    assert_eq!(
        code(guest.appraise(&references, &rules)).0,
        Code::ImaEntryUnknown,
        "lists are of whole files"
    );
}

#[test]
fn an_ima_log_in_direct_boot_explains_rem_0() {
    let mut log = LogWriter::default();
    let content = digest(b"/usr/bin/one");
    log.measure(1, Template::ImaNg, sha256(content.as_bytes()), b"/usr/bin/one", &[]);
    let bytes = log.finish();
    let read = evidence::ima::Log::new(&bytes).unwrap();
    let hash = read.entries().next().unwrap().unwrap().template_hash(Bank::Sha256);
    let mut rems = [evidence::hash::Digest::zero(HASH); 4];
    rems[0] = evidence::rmm::extend(HASH, &rems[0], hash.as_bytes()).unwrap();
    let references = LogReferences { boot: None, ..references_with_ima() };
    let logs = verifier::logs::attest(None, Some(&bytes), HASH, &rems).unwrap();
    let mut rules = LogRules::default();
    rules.ima.required = true;
    let report = logs.judge(Some(&references), [false; 4], &rules).unwrap();
    use Explained::{Ima, Zero};
    assert_eq!(report.registers, [Ima, Zero, Zero, Zero]);
}
