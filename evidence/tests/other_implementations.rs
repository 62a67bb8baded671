//! What this crate writes, other people's tools read alike: tpm2_eventlog of tpm2-tools for event logs, evmctl of
//! ima-evm-utils for IMA logs. `cargo xtask test` installs them.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use evidence::bank::{Bank, BankValue};
use evidence::ima::{self, ExtendRule, FileDigest, LogWriter, Register, Template};
use evidence::tcg::{EventLog, EventType, GrubText, Image, Registers, Variable};

fn run(tool: &str, arguments: &[&str], file: &[u8]) -> String {
    let mut log = tempfile::NamedTempFile::new().unwrap();
    log.write_all(file).unwrap();
    let output = Command::new(tool).args(arguments).arg(log.path()).output();
    let output = output
        .unwrap_or_else(|error| panic!("{tool} cannot be started ({error}): `cargo xtask test` installs it"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool}: {text}");
    text
}

/// A log with an event of every kind that has data of its own, for the PCRs of a TPM.
fn boot(mut log: EventLog<'static>) -> EventLog<'static> {
    log.measure(0, EventType::S_CRTM_VERSION, b"1\0", &b"1\0"[..]);
    for (name, value) in [("SecureBoot", &[1][..]), ("PK", &[])] {
        let data = Variable { vendor: Variable::GLOBAL, name: name.to_owned(), value }.encode();
        log.measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &data, data.clone());
    }
    let order = Variable { vendor: Variable::GLOBAL, name: "BootOrder".to_owned(), value: &[1, 0] };
    log.measure(1, EventType::EFI_VARIABLE_BOOT, order.value, order.encode());
    log.measure(4, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
    let image = Image { location: 1, length: 2, link_time_address: 0, device_path: &[0x7f, 0xff, 4, 0] };
    log.measure(4, EventType::EFI_BOOT_SERVICES_APPLICATION, b"authenticode", image.encode());
    let command = GrubText::Command(b"linux /vmlinuz quiet");
    log.measure(8, EventType::IPL, command.measured(), command.encode());
    log.measure(9, EventType::IPL, b"the kernel", &b"/vmlinuz\0"[..]);
    let action = b"Exit Boot Services Invocation";
    log.measure(5, EventType::EFI_ACTION, action, &action[..]);
    log
}

/// The registers as `tpm2_eventlog` prints them, after `pcrs:`.
fn printed(log: &EventLog<'_>, banks: &[Bank]) -> String {
    let mut text = String::new();
    for bank in banks {
        writeln!(text, "  {bank}:").unwrap();
        for (register, value) in log.replay(Registers::Pcr, *bank).unwrap() {
            writeln!(text, "    {register:<2} : 0x{value}").unwrap();
        }
    }
    text
}

#[test]
fn tpm2_eventlog_reads_what_we_write_and_replays_the_same_registers() {
    let banks = [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512];
    // Without EV_NO_ACTION: tpm2_eventlog 5.4 replays it as if it extended a register.
    let log = boot(EventLog::crypto_agile(0, &banks));
    let text = run("tpm2_eventlog", &[], &log.encode());
    let (events, pcrs) = text.split_once("\npcrs:\n").unwrap();
    assert_eq!(pcrs, printed(&log, &banks));
    assert_eq!(events.matches("- EventNum:").count(), log.events.len() + 1);
    for event in &log.events {
        assert!(events.contains(&format!("EventType: {}", event.kind)), "{event:?}");
        for digest in &event.digests {
            assert!(events.contains(&hex::encode(&digest.value)), "{event:?}");
        }
    }
    assert!(events.contains("UnicodeName: SecureBoot"));
}

#[test]
fn tpm2_eventlog_replays_logs_with_sha1_only_alike() {
    let log = boot(EventLog::sha1());
    let text = run("tpm2_eventlog", &[], &log.encode());
    assert_eq!(text.split_once("\npcrs:\n").unwrap().1, printed(&log, &[Bank::Sha1]));
}

fn digest(value: &[u8; 32]) -> FileDigest<'_> {
    FileDigest { verity: false, algorithm: "sha256", value }
}

/// One entry of every template that evmctl 1.4 knows, and a violation.
fn measurements() -> Vec<u8> {
    let mut log = LogWriter::default();
    log.measure(10, Template::ImaNg, digest(&[1; 32]), b"boot_aggregate", &[]);
    log.measure(10, Template::ImaNg, digest(&[2; 32]), b"/usr/bin/one", &[]);
    log.measure(10, Template::ImaSig, digest(&[3; 32]), b"/usr/bin/two", &[b""]);
    log.violate(10, b"/var/log/three");
    log.measure(10, Template::ImaBuf, digest(&[4; 32]), b"kexec-cmdline", &[b"quiet"]);
    log.finish()
}

/// PCR 10 after all entries.
fn pcr10(log: &ima::Log<'_>, bank: Bank, rule: ExtendRule) -> BankValue {
    let mut value = BankValue::zero(bank);
    for entry in log.entries() {
        value.extend(entry.unwrap().extension(bank, rule).as_bytes());
    }
    let register = Register { pcr: 10, before: BankValue::zero(bank), attested: value };
    let log = log.clone().check().unwrap();
    assert_eq!(log.attested(&[register], rule), Some(log.len()));
    value
}

/// Asks evmctl whether its replay of `log` gives `value`, through a file of PCRs as the kernel once printed them.
fn evmctl_agrees(log: &[u8], bank: Bank, value: BankValue) -> bool {
    let mut pcrs = tempfile::NamedTempFile::new().unwrap();
    for pcr in 0..24 {
        let value = if pcr == 10 { value } else { BankValue::zero(bank) };
        let bytes: Vec<String> = value.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        writeln!(pcrs, "PCR-{pcr:02}: {}", bytes.join(" ")).unwrap();
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(log).unwrap();
    let pcrs = format!("--pcrs={bank},{}", pcrs.path().display());
    let output = Command::new("evmctl")
        .args(["ima_measurement", "--ignore-violations", &format!("--verify-bank={bank}"), &pcrs])
        .arg(file.path())
        .output()
        .unwrap_or_else(|error| panic!("evmctl cannot be started ({error}): `cargo xtask test` installs it"));
    match output.status.code() {
        Some(0) => true,
        // It could read both files, and found the register to be another.
        Some(1) => false,
        _ => panic!("evmctl: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn evmctl_replays_our_ima_log_to_the_same_register() {
    let bytes = measurements();
    let log = ima::Log::new(&bytes).unwrap();
    // evmctl 1.4 reads files of other banks and checks nothing.
    for bank in [Bank::Sha1, Bank::Sha256] {
        let mut value = pcr10(&log, bank, ExtendRule::PerBank);
        assert!(evmctl_agrees(&bytes, bank, value), "{bank}");
        value.extend(&[0]);
        assert!(!evmctl_agrees(&bytes, bank, value), "{bank}: evmctl accepts any value");
    }
}

#[test]
fn evmctl_knows_the_padded_sha1_of_older_kernels_alike() {
    let bytes = measurements();
    let log = ima::Log::new(&bytes).unwrap();
    assert!(evmctl_agrees(&bytes, Bank::Sha256, pcr10(&log, Bank::Sha256, ExtendRule::PaddedSha1)));
}
