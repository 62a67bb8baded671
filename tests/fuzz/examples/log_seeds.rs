//! Writes the seeds of the log targets: `cargo run --example log_seeds`, in this directory.

use std::path::Path;
use std::{fs, io};

use evidence::bank::Bank;
use evidence::ima::{FileDigest, LogWriter, Template};
use evidence::tcg::{Event, EventLog, EventType, GrubText, Image, Variable};

fn main() -> io::Result<()> {
    for (name, log) in [
        ("ccel", EventLog::crypto_agile(1, &[Bank::Sha256])),
        ("agile", EventLog::crypto_agile(0, &[Bank::Sha1, Bank::Sha256])),
        ("sha1", EventLog::sha1()),
    ] {
        write("tcg_log", name, &boot(log).encode())?;
    }
    write("tcg_log", "area", &EventLog::crypto_agile(1, &[Bank::Sha256]).encode_area(0x100))?;

    let mut all = LogWriter::default();
    for (template, more) in TEMPLATES {
        let mut one = LogWriter::default();
        for log in [&mut one, &mut all] {
            log.measure(10, template, digest(template), b"/init", more);
        }
        write("ima_log", template.name(), &one.finish())?;
    }
    all.violate(4, b"/init");
    write("ima_log", "all", &all.finish())?;
    let (hash, file) = ("00".repeat(20), "11".repeat(32));
    write(
        "ima_log",
        "ascii",
        format!("10 {hash} ima-ng sha256:{file} /init\n 4 {hash} ima-sigv2 verity:sha256:{file} /a 0302\n")
            .as_bytes(),
    )?;
    write(
        "ima_log",
        "ascii_sha256",
        format!("10 {file} ima-modsig sha256:{file} /a  sha1:{hash} 3082\n").as_bytes(),
    )
}

const TEMPLATES: [(Template, &[&[u8]]); 8] = [
    (Template::Ima, &[]),
    (Template::ImaNg, &[]),
    (Template::ImaSig, &[b"\x03\x02"]),
    (Template::ImaNgV2, &[]),
    (Template::ImaSigV2, &[b""]),
    (Template::ImaBuf, &[b"quiet"]),
    (Template::ImaModsig, &[b"", b"sha1:\0\x01", b"0\x82"]),
    (
        Template::EvmSig,
        &[b"", b"security.ima\0", b"\x01\0\0\0", b"\x02", b"\0\0\0\0", b"\0\0\0\0", b"\xa4\x81"],
    ),
];

fn digest(template: Template) -> FileDigest<'static> {
    match template {
        Template::Ima => FileDigest { verity: false, algorithm: "sha1", value: &[0x5a; 20] },
        _ => FileDigest { verity: template == Template::ImaNgV2, algorithm: "sha256", value: &[0x5a; 32] },
    }
}

/// An event of each kind that has data of its own.
fn boot(mut log: EventLog<'static>) -> EventLog<'static> {
    if log.header.is_some() {
        log.remark(0, Event::startup_locality(3));
    }
    let variable = Variable { vendor: Variable::GLOBAL, name: "SecureBoot".to_owned(), value: &[1] }.encode();
    log.measure(1, EventType::EFI_VARIABLE_DRIVER_CONFIG, &variable, variable.clone());
    log.measure(1, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
    let path = [4, 4, 8, 0, b'\\', 0, 0, 0, 0x7f, 0xff, 4, 0];
    let image = Image { location: 1, length: 2, link_time_address: 0, device_path: &path };
    log.measure(2, EventType::EFI_BOOT_SERVICES_APPLICATION, b"grub", image.encode());
    let command = GrubText::Command(b"linux /k");
    log.measure(3, EventType::IPL, command.measured(), command.encode());
    log.measure(3, EventType::IPL, b"kernel", &b"/k\0"[..]);
    log.measure(3, EventType::EVENT_TAG, b"initrd", &b"\xec\x22\x3b\x8f\x01\0\0\0x"[..]);
    log.measure(2, EventType::EFI_ACTION, b"Exit", &b"Exit"[..]);
    log
}

fn write(target: &str, name: &str, seed: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), seed)
}
