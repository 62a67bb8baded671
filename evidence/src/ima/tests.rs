use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::bank::BankValue;

const TEMPLATES: [(Template, &[&[u8]]); 8] = [
    (Template::Ima, &[]),
    (Template::ImaNg, &[]),
    (Template::ImaSig, &[b"\x03signature"]),
    (Template::ImaNgV2, &[]),
    (Template::ImaSigV2, &[b""]),
    (Template::ImaBuf, &[b"buffer"]),
    (Template::ImaModsig, &[b"", b"sha256:\0digest", b"pkcs7"]),
    (Template::EvmSig, &[b"sig", b"names\0", b"lengths", b"values", b"\0\0\0\0", b"\0\0\0\0", b"\xa4\x81"]),
];

fn sha256(value: &[u8]) -> FileDigest<'_> {
    FileDigest { verity: false, algorithm: "sha256", value }
}

fn sha1(value: &[u8]) -> FileDigest<'_> {
    FileDigest { verity: false, algorithm: "sha1", value }
}

fn measure(writer: &mut LogWriter, template: Template, path: &str, more: &[&[u8]]) {
    match template {
        Template::Ima => writer.measure(10, template, sha1(&[0x5a; 20]), path.as_bytes(), more),
        _ => writer.measure(10, template, sha256(&[1; 32]), path.as_bytes(), more),
    }
}

/// One entry of each template.
fn every_template() -> Vec<u8> {
    let mut writer = LogWriter::default();
    for (template, more) in TEMPLATES {
        measure(&mut writer, template, &format!("/usr/bin/{}", template.name()), more);
    }
    writer.finish()
}

fn entries(log: &Log<'_>) -> Vec<(Template, String, String)> {
    let read = |entry: Entry<'_>| {
        (entry.template, entry.digest.to_string(), String::from_utf8_lossy(entry.path).into_owned())
    };
    log.entries().map(|entry| entry.map(read).unwrap()).collect()
}

fn error(bytes: &[u8]) -> String {
    match Log::new(bytes) {
        Ok(log) => log.entries().find_map(Result::err).expect("refused").to_string(),
        Err(error) => error.to_string(),
    }
}

fn replayed(log: &Log<'_>, registers: &[Register], rule: ExtendRule) -> Result<Option<usize>, ImaError> {
    log.clone().check().map(|log| log.attested(registers, rule))
}

/// The register after `extensions`, starting from zero.
fn register(bank: Bank, extensions: &[&[u8]]) -> Register {
    let mut attested = BankValue::zero(bank);
    extensions.iter().for_each(|digest| attested.extend(digest));
    Register { pcr: 10, before: BankValue::zero(bank), attested }
}

/// Two files and a violation between them, with the template data that Linux hashes.
fn with_violation() -> (Vec<u8>, [Vec<u8>; 2]) {
    let mut writer = LogWriter::default();
    writer.measure(10, Template::ImaNg, sha256(&[1; 32]), b"/a", &[]);
    writer.violate(10, b"/b");
    writer.measure(10, Template::ImaNg, sha256(&[2; 32]), b"/c", &[]);
    let data = |value: u8, path: &[u8]| {
        let digest = [&40u32.to_le_bytes()[..], b"sha256:\0", &[value; 32]].concat();
        [&digest[..], &3u32.to_le_bytes(), path, b"\0"].concat()
    };
    (writer.finish(), [data(1, b"/a"), data(2, b"/c")])
}

#[test]
fn reads_every_template() {
    let bytes = every_template();
    let log = Log::new(&bytes).unwrap();
    let read = entries(&log);
    assert_eq!(read.len(), TEMPLATES.len());
    for ((template, digest, path), (expected, _)) in read.into_iter().zip(TEMPLATES) {
        let value = if expected == Template::Ima { "sha1:5a5a" } else { "sha256:0101" };
        assert!(digest.starts_with(value), "{digest}");
        assert_eq!((template, path), (expected, format!("/usr/bin/{}", expected.name())));
    }
}

#[test]
fn a_digest_of_fs_verity_is_told_from_one_of_the_content() {
    let mut writer = LogWriter::default();
    let digest = FileDigest { verity: true, ..sha256(&[1; 32]) };
    writer.measure(10, Template::ImaNgV2, digest, b"/a", &[]);
    let bytes = writer.finish();
    assert!(entries(&Log::new(&bytes).unwrap())[0].1.starts_with("verity:sha256:01"));
}

#[test]
fn a_list_cut_short_anywhere_is_refused_or_is_a_shorter_list() {
    let bytes = every_template();
    let whole = entries(&Log::new(&bytes).unwrap());
    let mut shorter = 0;
    for length in 0..bytes.len() {
        let Ok(log) = Log::new(&bytes[..length]) else { continue };
        let read: Result<Vec<_>, _> = log.entries().collect();
        if read.is_ok() {
            shorter += 1;
            assert_eq!(entries(&log)[..], whole[..entries(&log).len()], "{length}");
        }
    }
    assert_eq!(shorter, TEMPLATES.len());
}

#[test]
fn registers_attest_the_entries_in_every_bank() {
    let (bytes, [a, c]) = with_violation();
    let log = Log::new(&bytes).unwrap();
    for bank in Bank::ALL {
        let (a, c) = (bank.hash([&a[..]]), bank.hash([&c[..]]));
        let violation = vec![0xff; bank.len()];
        let all = register(bank, &[a.as_bytes(), &violation, c.as_bytes()]);
        assert_eq!(replayed(&log, std::slice::from_ref(&all), ExtendRule::PerBank), Ok(Some(3)), "{bank}");
        let padded = replayed(&log, &[all], ExtendRule::PaddedSha1).unwrap();
        assert_eq!(padded, (bank == Bank::Sha1).then_some(3), "{bank}");
    }
}

#[test]
fn older_kernels_extend_the_padded_sha1_hash() {
    let (bytes, [a, c]) = with_violation();
    let pad = |digest: &[u8]| [digest, &[0; 12]].concat();
    let [a, c] = [a, c].map(|data| pad(Bank::Sha1.hash([&data[..]]).as_bytes()));
    let all = [register(Bank::Sha256, &[&a, &pad(&[0xff; 20]), &c])];
    let log = Log::new(&bytes).unwrap();
    assert_eq!(replayed(&log, &all, ExtendRule::PaddedSha1), Ok(Some(3)));
    assert_eq!(replayed(&log, &all, ExtendRule::PerBank), Ok(None));
}

#[test]
fn the_oldest_template_is_hashed_with_a_padded_name() {
    let mut writer = LogWriter::default();
    measure(&mut writer, Template::Ima, "/init", &[]);
    let bytes = writer.finish();
    let name = [&b"/init"[..], &[0; 251]].concat();
    let hash = Bank::Sha256.hash([&[0x5a; 20][..], &name]);
    let all = [register(Bank::Sha256, &[hash.as_bytes()])];
    assert_eq!(replayed(&Log::new(&bytes).unwrap(), &all, ExtendRule::PerBank), Ok(Some(1)));
}

#[test]
fn entries_after_the_attested_value_are_not_attested() {
    let (bytes, [a, _]) = with_violation();
    let log = Log::new(&bytes).unwrap();
    let attested = |extensions: &[&[u8]]| {
        replayed(&log, &[register(Bank::Sha256, extensions)], ExtendRule::PerBank).unwrap()
    };
    let a = Bank::Sha256.hash([&a[..]]);
    assert_eq!(attested(&[]), Some(0));
    assert_eq!(attested(&[a.as_bytes()]), Some(1));
    assert_eq!(attested(&[a.as_bytes(), &[0xff; 32]]), Some(2));
    assert_eq!(attested(&[&[0xff; 32]]), None);
    assert_eq!(replayed(&log, &[], ExtendRule::PerBank), Ok(None));
}

#[test]
fn all_registers_must_match_at_one_place() {
    let mut writer = LogWriter::default();
    writer.measure(10, Template::ImaNg, sha256(&[0; 32]), BOOT_AGGREGATE, &[]);
    writer.violate(1, b"/a");
    writer.violate(4, b"/b");
    writer.violate(1, b"/c");
    let bytes = writer.finish();
    let log = Log::new(&bytes).unwrap();
    let attested = |times: [usize; 2]| {
        let registers = [1, 4]
            .into_iter()
            .zip(times)
            .map(|(pcr, times)| Register { pcr, ..register(Bank::Sha256, &vec![&[0xff; 32][..]; times]) });
        replayed(&log, &registers.collect::<Vec<_>>(), ExtendRule::PerBank).unwrap()
    };
    assert_eq!(attested([0, 0]), Some(1));
    assert_eq!(attested([1, 1]), Some(3));
    assert_eq!(attested([2, 1]), Some(4));
    assert_eq!(attested([2, 0]), None);
    assert_eq!(attested([0, 1]), None);
}

/// The ASCII form, as Linux prints it.
fn ascii(log: &[u8]) -> String {
    let mut text = String::new();
    for ((template, more), entry) in TEMPLATES.iter().zip(Log::new(log).unwrap().entries()) {
        let entry = entry.unwrap();
        let hash = entry.template_hash(Bank::Sha1);
        let (digest, path) = (entry.digest.to_string(), String::from_utf8_lossy(entry.path));
        let digest = match template {
            Template::Ima => digest.trim_start_matches("sha1:").to_owned(),
            Template::ImaNgV2 | Template::ImaSigV2 => format!("ima:{digest}"),
            _ => digest,
        };
        write!(text, "{:2} {hash} {} {digest} {path}", entry.pcr, template.name()).unwrap();
        for field in *more {
            match field.strip_prefix(b"sha256:\0") {
                Some(value) => write!(text, " sha256:{}", hex::encode(value)).unwrap(),
                None => write!(text, " {}", hex::encode(field)).unwrap(),
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_ascii_form_is_the_same_list() {
    let binary = every_template();
    let text = ascii(&binary);
    let (evm, text): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains(" evm-sig "));
    let text = text.join("\n");
    let log = Log::new(text.as_bytes()).unwrap();
    assert!(binary.starts_with(&log.binary));
    assert_eq!(log.entries().count(), TEMPLATES.len() - 1);
    assert!(error(evm[0].as_bytes()).contains("binary_runtime_measurements"));
}

#[test]
fn a_path_with_spaces_is_read_where_it_is_the_last_field() {
    let line = |template: &str, more: &str| {
        format!("10 {} {template} sha256:{} /a b c{more}\n", "00".repeat(20), "11".repeat(32))
    };
    let text = line("ima-ng", "");
    assert_eq!(entries(&Log::new(text.as_bytes()).unwrap())[0].2, "/a b c");
    assert!(error(line("ima-sig", " 00").as_bytes()).contains("binary form only"));
}

#[test]
fn lists_of_another_algorithm_are_recognised() {
    let hash = "22".repeat(32);
    let line = format!("10 {hash} ima-ng sha256:{hash} /a\n");
    let log = Log::new(line.as_bytes()).unwrap();
    assert_eq!(log.digest_len, 32);
    let again = Log::new(&log.binary).unwrap();
    assert_eq!((again.digest_len, entries(&again)), (32, entries(&log)));
    assert!(
        error(format!("{line}10 {} ima-ng sha256:{hash} /a", "22".repeat(20)).as_bytes()).contains("length")
    );
}

#[test]
fn a_list_is_cut_between_its_entries() {
    let whole = every_template();
    let log = Log::new(&whole).unwrap();
    let all = entries(&log);
    for first in 0..=all.len() {
        let part = log.since(first as u64).unwrap().unwrap();
        assert!(whole.ends_with(part));
        assert_eq!(entries(&Log::new(part).unwrap()), all[first..]);
    }
    assert_eq!(log.since(all.len() as u64 + 1), Ok(None));
    let cut = &whole[..whole.len() - 1];
    let (last, log) = (all.len() as u64 - 1, Log::new(cut).unwrap());
    assert!(log.since(last).is_ok() && log.since(last + 1).is_err());
}

#[test]
fn refuses_what_is_no_list_and_says_why() {
    let mut writer = LogWriter::default();
    measure(&mut writer, Template::ImaNg, "/a", &[]);
    let good = writer.finish();
    // Offsets: name 28, data length 34, digest 42 (NUL at 49), path length 82, path 86.
    for (offset, value, expected) in [
        (1, 1, "register is above"),
        (24, 5, "template \"ima-n\""),
        (30, b'b', "template \"imb"),
        (34, 52, "cut short in its template data"),
        (34, 50, "reaches past the end"),
        (38, 39, "reaches past the end"),
        (42, b'S', "digest is not"),
        (48, b'x', "digest is not"),
        (49, b'x', "digest is not"),
        (82, 2, "path does not end with NUL"),
        (87, 0, "contains NUL"),
        (88, b'x', "path does not end with NUL"),
    ] {
        let mut bytes = good.clone();
        assert_ne!(std::mem::replace(&mut bytes[offset], value), value, "{offset}");
        let error = error(&bytes);
        assert!(error.contains(expected), "byte {offset}: {error}");
    }
    for text in
        ["10", "10 zz ima-ng x", "10 0000 ima-ng sha1:00 /a", "10 x y z", "garbage", "\u{1}\u{2}\u{3}\u{4}"]
    {
        assert!(!error(text.as_bytes()).is_empty());
    }
    assert!(matches!(Log::new(&vec![0; MAX_LOG_SIZE + 1]), Err(ImaError::TooLarge { .. })));
}

#[test]
fn refuses_paths_that_no_kernel_reports() {
    let path = |len: usize| {
        let mut writer = LogWriter::default();
        measure(&mut writer, Template::ImaNg, &"a".repeat(len), &[]);
        let bytes = writer.finish();
        Log::new(&bytes).unwrap().entries().next().unwrap().map(|entry| entry.path.len())
    };
    assert_eq!(path(MAX_PATH_LEN), Ok(MAX_PATH_LEN));
    assert_eq!(path(MAX_PATH_LEN + 1), Err(ImaError::Path { entry: 0, found: MAX_PATH_LEN + 1 }));
    assert!(matches!(path(0), Err(ImaError::Entry { .. })));
}

/// The template's data of entry `index` of a long list, and its digest.
fn long_entry(index: u32) -> ([u8; 32], String) {
    let mut digest = [7; 32];
    digest[..4].copy_from_slice(&index.to_le_bytes());
    (digest, format!("/usr/lib/{index}"))
}

/// So long that two threads work on it, in two registers of which one is of another bank.
#[test]
fn a_long_list_is_attested_as_a_short_one_is() {
    const ENTRIES: u32 = 20_000;
    let mut writer = LogWriter::default();
    let banks = [(10, Bank::Sha256), (11, Bank::Sha384)];
    let mut values = banks.map(|(_, bank)| BankValue::zero(bank));
    let mut halfway = values;
    for index in 0..ENTRIES {
        let at = usize::from(index % 7 == 0);
        let (digest, path) = long_entry(index);
        let mut one = LogWriter::default();
        for writer in [&mut writer, &mut one] {
            match index % 11 {
                0 => writer.violate(banks[at].0, path.as_bytes()),
                _ => writer.measure(banks[at].0, Template::ImaNg, sha256(&digest), path.as_bytes(), &[]),
            }
        }
        let bytes = one.finish();
        let entry = Log::new(&bytes).unwrap().entries().next().unwrap().unwrap().template_hash(banks[at].1);
        match index % 11 {
            0 => values[at].extend(&vec![0xff; banks[at].1.len()]),
            _ => values[at].extend(entry.as_bytes()),
        }
        if index + 1 == ENTRIES / 2 {
            halfway = values;
        }
    }
    let bytes = writer.finish();
    let log = Log::new(&bytes).unwrap();
    let registers = |values: [BankValue; 2]| {
        let register = |((pcr, bank), attested)| Register { pcr, before: BankValue::zero(bank), attested };
        banks.into_iter().zip(values).map(register).collect::<Vec<_>>()
    };
    for _ in 0..5 {
        let all = replayed(&log, &registers(values), ExtendRule::PerBank);
        assert_eq!(all, Ok(Some(ENTRIES as usize)));
        let half = replayed(&log, &registers(halfway), ExtendRule::PerBank);
        assert_eq!(half, Ok(Some(ENTRIES as usize / 2)));
        assert_eq!(replayed(&log, &registers([values[0], halfway[1]]), ExtendRule::PerBank), Ok(None));
    }
    for at in [0, 1, 511, 512, 513, ENTRIES as usize - 1] {
        let log = log.clone().check().unwrap();
        let mut positions = Vec::new();
        let limited = log.in_parts(
            at,
            |_| (),
            |part, _| {
                positions.extend((part.first()..).zip(part.entries()).map(|(position, entry)| {
                    assert_eq!(entry.path, long_entry(u32::try_from(position).unwrap()).1.as_bytes());
                    position
                }));
                Ok::<_, ()>(())
            },
        );
        assert_eq!((limited, positions), (Ok(()), (0..at).collect()));
    }
}

#[test]
fn an_error_behind_the_attested_part_is_an_error() {
    let (bytes, _) = with_violation();
    let cut = &bytes[..bytes.len() - 1];
    let nothing = [register(Bank::Sha256, &[])];
    let result = replayed(&Log::new(cut).unwrap(), &nothing, ExtendRule::PerBank);
    assert!(matches!(result, Err(ImaError::Truncated { entry: 2, .. })), "{result:?}");
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..600) {
        let valid = every_template();
        for bytes in [bytes.clone(), [&valid[..cut.min(valid.len())], &bytes].concat()] {
            if let Ok(log) = Log::new(&bytes) {
                prop_assert!(log.entries().count() <= bytes.len());
                let _ = replayed(&log, &[register(Bank::Sha256, &[])], ExtendRule::PerBank);
            }
        }
    }
}
