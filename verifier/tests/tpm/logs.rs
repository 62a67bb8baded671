//! What logs prove beside a quote.

use evidence::bank::{Bank, BankValue};
use evidence::ima::{FileDigest, LogWriter, Template};
use evidence::tcg::{Covers, Event, EventLog, EventType, Variable};
use evidence::tpm::PcrValues;
use rcgen::PKCS_ECDSA_P384_SHA384;
use verifier::Code;
use verifier::logs::{ImaReferences, ImaRules};
use verifier::testing::{Authority, Tpm};
use verifier::tpm::{BootEvents, ImaPart, ImaState, boot_aggregate, replay_boot, replay_ima};

const BOOT: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

fn tpm() -> Tpm {
    Tpm::new(&Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384))
}

fn quoted(tpm: &Tpm, registers: &[u32]) -> PcrValues {
    tpm.quote(registers, &[]).values
}

fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    Variable { vendor: Variable::GLOBAL, name: name.to_owned(), value }.encode()
}

/// A boot with Secure Boot on.
fn boot() -> EventLog<'static> {
    let mut log = EventLog::crypto_agile(0, &[Bank::Sha1, Bank::Sha256]);
    log.remark(0, Event::startup_locality(3));
    log.measure(0, EventType::S_CRTM_VERSION, b"1\0", &b"1\0"[..]);
    let secure = variable("SecureBoot", &[1]);
    log.measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure, secure.clone());
    log.measure(4, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
    log.measure(9, EventType::IPL, b"the kernel", &b"/vmlinuz\0"[..]);
    log.measure(14, EventType::IPL, b"MokList", &b"MokList\0"[..]);
    log
}

/// Extends the registers as the log says.
fn start(tpm: &mut Tpm, log: &EventLog<'_>) {
    tpm.set(0, BankValue::locality(Bank::Sha256, 3));
    for event in log.events.iter().filter(|event| event.extends()) {
        tpm.extend(event.register, event.digest(Bank::Sha256).unwrap());
    }
}

fn refused(log: &[u8], quoted: &PcrValues) -> Code {
    replay_boot(log, quoted).unwrap_err().code
}

#[test]
fn a_boot_log_that_leads_to_the_quoted_registers_is_true() {
    let (mut tpm, log) = (tpm(), boot());
    start(&mut tpm, &log);
    let bytes = log.encode();
    let BootEvents { events, unproven, secure_boot, .. } = replay_boot(&bytes, &quoted(&tpm, &BOOT)).unwrap();
    assert_eq!((unproven, secure_boot), (1, Some(true)));
    let covers: Vec<_> = events.iter().map(|proven| (proven.event.register, proven.covers)).collect();
    assert_eq!(covers, [(0, Covers::Data), (7, Covers::Data), (4, Covers::Data), (9, Covers::Other)]);
}

#[test]
fn a_boot_log_that_does_not_lead_to_them_is_refused() {
    let (mut tpm, log) = (tpm(), boot());
    start(&mut tpm, &log);
    let good = quoted(&tpm, &BOOT);
    type Change = fn(&mut EventLog<'static>);
    let changes: [(&str, Change); 5] = [
        ("an event is missing", |log| drop(log.events.remove(1))),
        ("an event is added", |log| log.measure(5, EventType::SEPARATOR, &[0; 4], &[0; 4][..])),
        ("an event is there twice", |log| log.events.push(log.events[3].clone())),
        ("another locality", |log| log.events[0].data = Event::startup_locality(0)),
        ("another register", |log| log.events[3].register = 5),
    ];
    for (what, change) in changes {
        let mut log = boot();
        change(&mut log);
        assert_eq!(refused(&log.encode(), &good), Code::LogMismatch, "{what}");
    }
    assert_eq!(refused(&[], &good), Code::LogMalformed);
    // A register that nobody extended, according to the log.
    tpm.extend(2, &[9; 32]);
    assert_eq!(refused(&log.encode(), &quoted(&tpm, &BOOT)), Code::LogMismatch);
}

/// W11: the digest is true, and the data beside it was exchanged.
#[test]
fn data_that_was_not_measured_is_refused_or_marked() {
    let (mut tpm, log) = (tpm(), boot());
    start(&mut tpm, &log);
    let good = quoted(&tpm, &BOOT);
    let mut exchanged = log.clone();
    exchanged.events[2].data = variable("SecureBoot", &[0]).into();
    assert_eq!(refused(&exchanged.encode(), &good), Code::LogMismatch);
    // A label that no digest covers can be changed; it is not shown as what was measured.
    let mut labelled = log;
    labelled.events[4].data = b"/another\0"[..].into();
    let bytes = labelled.encode();
    let events = replay_boot(&bytes, &good).unwrap().events;
    assert_eq!(events[3].covers, Covers::Other);
}

/// W14: registers of a dynamic launch start as ones.
#[test]
fn registers_17_to_22_start_as_ones() {
    let (mut tpm, log) = (tpm(), boot());
    start(&mut tpm, &log);
    replay_boot(&log.encode(), &quoted(&tpm, &[0, 7, 17, 22])).unwrap();
    tpm.set(17, BankValue::padded(Bank::Sha256, &[1; 32]));
    assert_eq!(refused(&log.encode(), &quoted(&tpm, &[0, 7, 17])), Code::LogMismatch);
    tpm.set(17, BankValue::zero(Bank::Sha256));
    assert_eq!(refused(&log.encode(), &quoted(&tpm, &[0, 7, 17])), Code::LogMismatch);
}

#[test]
fn secure_boot_counts_only_if_it_was_measured_and_quoted_where_it_belongs() {
    for (events, registers, expected) in [
        (vec![(7, &[1][..])], &[7_u32][..], Some(true)),
        (vec![(7, &[0])], &[7], Some(false)),
        (vec![(7, &[1]), (7, &[0])], &[7], Some(false)),
        (vec![(7, &[1])], &[0], None),
        (vec![(5, &[1])], &[5, 7], None),
        (vec![], &[7], None),
    ] {
        let mut log = EventLog::crypto_agile(0, &[Bank::Sha256]);
        log.measure(0, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
        for (register, value) in events {
            let data = variable("SecureBoot", value);
            log.measure(register, EventType::EFI_VARIABLE_DRIVER_CONFIG, &data, data.clone());
        }
        let mut tpm = tpm();
        for event in &log.events {
            tpm.extend(event.register, event.digest(Bank::Sha256).unwrap());
        }
        assert_eq!(replay_boot(&log.encode(), &quoted(&tpm, registers)).unwrap().secure_boot, expected);
    }
}

#[test]
fn a_log_with_sha1_only_explains_no_other_bank() {
    let mut log = EventLog::sha1();
    log.measure(0, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
    assert_eq!(refused(&log.encode(), &quoted(&tpm(), &[0])), Code::LogMalformed);
}

/// A list that is measured while it grows.
struct Files {
    tpm: Tpm,
    log: LogWriter,
}

impl Files {
    fn new() -> Self {
        Self { tpm: tpm(), log: LogWriter::default() }
    }

    /// A list that begins as Linux's do.
    fn booted() -> Self {
        let mut files = Self::new();
        let aggregate =
            Bank::Sha256.hash(BOOT.map(|pcr| files.tpm.register(pcr)).iter().map(BankValue::as_bytes));
        files.measure(10, b"boot_aggregate", aggregate.as_bytes());
        files
    }

    fn measure(&mut self, pcr: u32, path: &[u8], digest: &[u8]) {
        let digest = FileDigest { verity: false, algorithm: "sha256", value: digest };
        self.record(pcr, |log| log.measure(pcr, Template::ImaNg, digest, path, &[]));
    }

    fn violate(&mut self, path: &[u8]) {
        self.record(10, |log| log.violate(10, path));
    }

    fn record(&mut self, pcr: u32, write: impl Fn(&mut LogWriter)) {
        let mut one = LogWriter::default();
        write(&mut one);
        let bytes = one.finish();
        let list = evidence::ima::Log::new(&bytes).unwrap();
        let entry = list.entries().next().unwrap().unwrap();
        let extension = entry.extension(Bank::Sha256, evidence::ima::ExtendRule::PerBank);
        self.tpm.extend(pcr, extension.as_bytes());
        write(&mut self.log);
    }

    fn quoted(&self) -> PcrValues {
        quoted(&self.tpm, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    }

    fn part(&self) -> Vec<u8> {
        self.log.clone().finish()
    }

    fn replay(&self, first: u64, log: &[u8], state: Option<&ImaState>) -> Result<ImaState, Code> {
        let proof = replay_ima(ImaPart { first, log }, state, &self.quoted(), None);
        proof.map(|proof| proof.state).map_err(|refusal| refusal.code)
    }

    fn judge(&self, references: &serde_json::Value) -> Result<usize, Code> {
        let references: ImaReferences = serde_json::from_value(references.clone()).unwrap();
        let log = self.part();
        let part = ImaPart { first: 0, log: &log };
        let proof = replay_ima(part, None, &self.quoted(), Some(&references)).unwrap();
        let report = proof.judge(&ImaRules::default()).unwrap();
        report.map(|report| report.files).map_err(|refusal| refusal.code)
    }
}

fn known(path: &str, digest: u8) -> serde_json::Value {
    serde_json::json!({ "files": { path: [format!("sha256:{}", hex::encode([digest; 32]))] } })
}

#[test]
fn a_list_is_proven_as_far_as_the_quote_goes() {
    let mut files = Files::booted();
    files.measure(10, b"/usr/bin/a b", &[1; 32]);
    let quoted = files.quoted();
    files.measure(10, b"/later", &[2; 32]);
    let log = files.part();
    let proof = replay_ima(ImaPart { first: 0, log: &log }, None, &quoted, None).unwrap();
    assert_eq!((proof.attested(), proof.state.entries), (2, 2));
    assert_eq!(boot_aggregate(&proof, &quoted), Ok(Some(true)));
    assert_eq!(proof.entries().last().unwrap().path, b"/usr/bin/a b");
}

#[test]
fn new_entries_are_replayed_from_where_the_last_quote_ended() {
    let mut files = Files::booted();
    let first = files.replay(0, &files.part(), None).unwrap();
    files.log = LogWriter::default();
    // Nothing new.
    assert_eq!(files.replay(1, &[], Some(&first)), Ok(first));
    files.measure(10, b"/new", &[1; 32]);
    let second = files.replay(1, &files.part(), Some(&first)).unwrap();
    assert_eq!(second.entries, 2);
    for (what, first, state) in [
        ("a gap", 2, Some(&first)),
        ("a part without a known start", 1, None),
        ("a part that was sent before", 1, Some(&second)),
    ] {
        assert_eq!(files.replay(first, &files.part(), state), Err(Code::LogMismatch), "{what}");
    }
    // The list from its beginning is good at any time; this part alone is not that.
    assert_eq!(files.replay(0, &files.part(), Some(&first)), Err(Code::LogMismatch));
}

#[test]
fn a_list_that_was_not_measured_is_refused() {
    let mut files = Files::booted();
    files.measure(10, b"/a", &[1; 32]);
    let log = files.part();
    assert_eq!(files.replay(0, &[], None), Err(Code::LogMismatch));
    assert_eq!(files.replay(0, &log[..log.len() - 1], None), Err(Code::LogMalformed));
    assert_eq!(files.replay(0, b"nothing of this", None), Err(Code::LogMalformed));
    let mut other = Files::booted();
    other.measure(10, b"/b", &[1; 32]);
    assert_eq!(files.replay(0, &other.part(), None), Err(Code::LogMismatch));
    let empty = Files::new();
    assert_eq!(empty.replay(0, &[], None), Err(Code::LogMissing));
    let mut stranger = Files::booted();
    stranger.measure(11, b"/a", &[1; 32]);
    assert_eq!(stranger.replay(0, &stranger.part(), None), Err(Code::ImaEntryUnattested));
    let refusal =
        replay_ima(ImaPart { first: 0, log: &log }, None, &quoted(&files.tpm, &[0, 1]), None).unwrap_err();
    assert_eq!(refusal.code, Code::LogMismatch);
}

#[test]
fn the_list_belongs_to_the_boot_whose_registers_are_quoted() {
    let mut files = Files::booted();
    files.tpm.extend(4, &[3; 32]);
    let log = files.part();
    let proof = replay_ima(ImaPart { first: 0, log: &log }, None, &files.quoted(), None).unwrap();
    assert_eq!(boot_aggregate(&proof, &files.quoted()).unwrap_err().code, Code::BootAggregateMismatch);
    assert_eq!(boot_aggregate(&proof, &quoted(&files.tpm, &[10])), Ok(None));
    let mut headless = Files::new();
    headless.measure(10, b"/a", &[1; 32]);
    let log = headless.part();
    let proof = replay_ima(ImaPart { first: 0, log: &log }, None, &headless.quoted(), None).unwrap();
    assert_eq!(boot_aggregate(&proof, &headless.quoted()).unwrap_err().code, Code::BootAggregateMismatch);
}

#[test]
fn files_are_known_at_their_paths_only() {
    let mut files = Files::booted();
    files.measure(10, b"/usr/bin/my tool", &[1; 32]);
    assert_eq!(files.judge(&known("/usr/bin/my tool", 1)), Ok(1));
    assert_eq!(files.judge(&known("/usr/bin/my tool", 2)), Err(Code::ImaEntryUnknown));
    assert_eq!(files.judge(&known("/usr/bin/other", 1)), Err(Code::ImaEntryUnknown));
    // Only the very first entry is the boot's.
    files.measure(10, b"boot_aggregate", &[4; 32]);
    assert_eq!(files.judge(&known("/usr/bin/my tool", 1)), Err(Code::ImaEntryUnknown));
}

/// Two threads share a long list, in parts.
#[test]
fn in_a_long_list_everything_is_judged_up_to_where_the_quote_goes() {
    const FILES: usize = 12_000;
    let path = |index: usize| format!("/usr/lib/{index}");
    let list = |stranger: Option<usize>| {
        let mut files = Files::booted();
        for index in 0..FILES {
            let digest = if stranger == Some(index) { [9; 32] } else { [1; 32] };
            files.measure(10, path(index).as_bytes(), &digest);
        }
        files
    };
    let digest = format!("sha256:{}", hex::encode([1; 32]));
    let known: serde_json::Map<String, serde_json::Value> =
        (0..FILES).map(|index| (path(index), serde_json::json!([digest]))).collect();
    let known = serde_json::json!({ "files": known });
    assert_eq!(list(None).judge(&known), Ok(FILES));
    for stranger in [0, 1, 511, 512, 5000, FILES - 1] {
        let files = list(Some(stranger));
        let references: ImaReferences = serde_json::from_value(known.clone()).unwrap();
        let log = files.part();
        let part = ImaPart { first: 0, log: &log };
        let proof = replay_ima(part, None, &files.quoted(), Some(&references)).unwrap();
        let refusal = proof.judge(&ImaRules::default()).unwrap().unwrap_err();
        assert_eq!(refusal.code, Code::ImaEntryUnknown, "{stranger}");
        let named = format!("{:?}", refusal.subjects);
        assert!(named.contains(&path(stranger)) && refusal.subjects.len() == 1, "{named}");
    }
    // What follows the quote is not judged, and not asked for.
    let mut files = list(None);
    let quoted = files.quoted();
    files.measure(10, b"/later", &[9; 32]);
    files.violate(b"/later");
    let references: ImaReferences = serde_json::from_value(known).unwrap();
    let log = files.part();
    let proof = replay_ima(ImaPart { first: 0, log: &log }, None, &quoted, Some(&references)).unwrap();
    assert_eq!(proof.judge(&ImaRules::default()).unwrap().unwrap().files, FILES);
    assert_eq!(files.judge(&serde_json::to_value(&references).unwrap()), Err(Code::ImaViolation));
}

#[test]
fn a_file_that_changed_while_it_was_measured_is_refused() {
    let mut files = Files::booted();
    files.violate(b"/a");
    assert_eq!(files.judge(&known("/a", 1)), Err(Code::ImaViolation));
}
