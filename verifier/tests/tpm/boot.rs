//! Measured boot of a machine with a TPM, held against what is known of it.

use evidence::bank::Bank;
use evidence::tcg::{EventLog, EventType, GrubText, Image, Variable};
use evidence::tpm::PcrValues;
use rcgen::PKCS_ECDSA_P384_SHA384;
use verifier::logs::{BootReferences, BootReport, BootRules, LogReferences, Role, Unchecked};
use verifier::testing::{Authority, Tpm};
use verifier::tpm::{boot_references, replay_boot};
use verifier::{Code, Refusal};

const QUOTED: [u32; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];

struct Measured {
    register: u32,
    kind: EventType,
    content: Vec<u8>,
    data: Vec<u8>,
}

fn measured(register: u32, kind: EventType, content: &[u8], data: &[u8]) -> Measured {
    Measured { register, kind, content: content.to_vec(), data: data.to_vec() }
}

fn variable(register: u32, kind: EventType, name: &str, value: &[u8]) -> Measured {
    let data = Variable { vendor: Variable::GLOBAL, name: name.to_owned(), value }.encode();
    measured(register, kind, &data, &data)
}

fn application(content: &[u8]) -> Measured {
    let data = Image { location: 1, length: 2, link_time_address: 0, device_path: &[] }.encode();
    measured(4, EventType::EFI_BOOT_SERVICES_APPLICATION, content, &data)
}

fn grub(text: GrubText<'_>) -> Measured {
    measured(8, EventType::IPL, text.measured(), &text.encode())
}

fn file(path: &str, content: &[u8]) -> Measured {
    measured(9, EventType::IPL, content, format!("{path}\0").as_bytes())
}

/// A boot of the release `version` through shim and GRUB, as firmware of PCs and GRUB measure it.
fn boot(version: &str) -> Vec<Measured> {
    let kernel = format!("/vmlinuz-{version}");
    let initramfs = format!("/initramfs-{version}.img");
    let mut events = vec![
        measured(0, EventType::S_CRTM_VERSION, b"1\0", b"1\0"),
        measured(0, EventType::EFI_PLATFORM_FIRMWARE_BLOB, b"firmware", &[0; 16]),
        variable(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", &[1]),
    ];
    for name in ["PK", "KEK", "db", "dbx"] {
        events.push(variable(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, name, name.as_bytes()));
    }
    events.push(variable(1, EventType::EFI_VARIABLE_BOOT2, "BootOrder", &[0, 1]));
    events.push(measured(1, EventType::EFI_HANDOFF_TABLES, b"SMBIOS of this machine", &[0; 8]));
    events.push(measured(2, EventType::EFI_BOOT_SERVICES_DRIVER, b"option ROM", &[]));
    let calling = b"Calling EFI Application from Boot Option";
    events.push(measured(4, EventType::EFI_ACTION, calling, calling));
    events.extend((0..8).map(|register| measured(register, EventType::SEPARATOR, &[0; 4], &[0; 4])));
    events.push(measured(5, EventType::EFI_GPT_EVENT, b"EFI PART", b"EFI PART"));
    events.push(variable(7, EventType::EFI_VARIABLE_AUTHORITY, "db", b"certificate"));
    events.push(application(b"shim"));
    events.push(measured(14, EventType::IPL, b"owner's keys", b"MokList\0"));
    events.push(application(b"grub"));
    events.push(file("(hd0,gpt2)/grub.cfg", b"linux; initrd; boot"));
    events.push(grub(GrubText::Command(b"linux /vmlinuz root=/dev/vda2")));
    events.push(file(&kernel, kernel.as_bytes()));
    events.push(grub(GrubText::KernelCommandLine(b"/vmlinuz root=/dev/vda2")));
    events.push(grub(GrubText::Command(b"initrd /initramfs.img")));
    events.push(file(&initramfs, initramfs.as_bytes()));
    let exit = b"Exit Boot Services Invocation";
    events.push(measured(5, EventType::EFI_ACTION, exit, exit));
    events
}

fn log(events: &[Measured]) -> EventLog<'static> {
    let mut log = EventLog::crypto_agile(0, &[Bank::Sha256]);
    for event in events {
        log.measure(event.register, event.kind, &event.content, event.data.clone());
    }
    log
}

/// The registers after `events`.
fn quoted(events: &[Measured], registers: &[u32]) -> PcrValues {
    let mut tpm = Tpm::new(&Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384));
    for event in &log(events).events {
        tpm.extend(event.register, event.digest(Bank::Sha256).unwrap());
    }
    tpm.quote(registers, &[]).values
}

fn known(versions: &[&str]) -> LogReferences {
    let mut boot = BootReferences::default();
    for version in versions {
        let one = boot_references(&log(&self::boot(version)).encode(), Bank::Sha256, version).unwrap();
        let kernels = [boot.kernels, one.kernels].concat();
        boot = BootReferences { kernels, ..one };
    }
    LogReferences { boot: Some(boot), ..LogReferences::default() }
}

fn strict() -> BootRules {
    BootRules {
        required: true,
        secure_boot: true,
        roles: [Role::Kernel, Role::Initramfs, Role::CommandLine, Role::SecureBootVariable].into(),
        ..BootRules::default()
    }
}

/// Boots `events`, sends the log of `told`, and is held against the releases 1 and 2.
fn tell(events: &[Measured], told: &[Measured], rules: &BootRules) -> Result<BootReport, Refusal> {
    let bytes = log(told).encode();
    replay_boot(&bytes, &quoted(events, &QUOTED))?.judge(&known(&["1", "2"]), rules)
}

fn judge(events: &[Measured], rules: &BootRules) -> Result<BootReport, Refusal> {
    tell(events, events, rules)
}

#[track_caller]
fn unknown(events: &[Measured], rules: &BootRules) -> String {
    let refusal = judge(events, rules).unwrap_err();
    assert_eq!(refusal.code, Code::BootEventUnknown, "{refusal:?}");
    refusal.detail
}

fn at(events: &[Measured], content: &[u8]) -> usize {
    events.iter().position(|event| event.content == content).unwrap()
}

#[test]
fn a_boot_that_somebody_vouches_for_is_known_again() {
    for version in ["1", "2"] {
        let report = judge(&boot(version), &strict()).unwrap();
        assert_eq!((report.kernel.as_deref(), report.secure_boot), (Some(version), Some(true)));
        assert_eq!(report.command_line.as_deref(), Some("/vmlinuz root=/dev/vda2"));
        let names =
            |role| report.components[&role].iter().map(|part| part.name.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(names(Role::Kernel), [format!("/vmlinuz-{version}")]);
        assert_eq!(names(Role::Initramfs), [format!("/initramfs-{version}.img")]);
    }
}

#[test]
fn whatever_is_measured_must_be_known() {
    let events = boot("1");
    for content in
        ["firmware", "option ROM", "shim", "grub", "owner's keys", "/vmlinuz-1", "/initramfs-1.img"]
    {
        let mut events = boot("1");
        let index = at(&events, content.as_bytes());
        events[index].content.push(b'!');
        unknown(&events, &strict());
    }
    for index in 0..events.len() {
        let mut more = boot("1");
        more.insert(index, application(b"rootkit"));
        unknown(&more, &strict());
    }
    let mut command = boot("1");
    command.insert(at(&events, b"shim"), grub(GrubText::Command(b"insmod rootkit")));
    assert!(unknown(&command, &strict()).contains("insmod rootkit"));
    let mut off = boot("1");
    let secure = off.iter().position(|event| event.register == 7).unwrap();
    off[secure] = variable(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", &[0]);
    unknown(&off, &strict());
}

/// The initial RAM disk of one release does not go with the kernel of another, however the log tells their order.
#[test]
fn kernels_and_what_belongs_to_them_are_of_one_release() {
    let mut mixed = boot("1");
    let initramfs = at(&mixed, b"/initramfs-1.img");
    mixed[initramfs] = file("/initramfs-1.img", b"/initramfs-2.img");
    assert!(unknown(&mixed, &strict()).contains("known as initramfs"));
    let mut two = boot("1");
    let kernel = at(&two, b"/vmlinuz-1");
    two.insert(kernel, file("/vmlinuz-2", b"/vmlinuz-2"));
    assert_eq!(judge(&two, &strict()).unwrap_err().code, Code::BootSequence);
    // The registers prove the order within each of them only: what the log says of the rest changes nothing.
    for (events, accepted) in [(boot("1"), true), (mixed, false), (two, false)] {
        let (files, mut others): (Vec<_>, Vec<_>) = {
            let shuffled = boot_order(&events);
            shuffled.into_iter().partition(|event| event.register == 9)
        };
        others.extend(files);
        assert_eq!(tell(&events, &others, &strict()).is_ok(), accepted);
    }
}

fn boot_order(events: &[Measured]) -> Vec<Measured> {
    events.iter().map(|event| measured(event.register, event.kind, &event.content, &event.data)).collect()
}

#[test]
fn what_policy_leaves_unchecked_cannot_be_code() {
    let mut rules = strict();
    rules.unchecked = [Unchecked::BootVariable, Unchecked::PlatformConfig, Unchecked::PartitionTable].into();
    let mut other = boot("1");
    for (content, register) in [("SMBIOS of this machine", 1), ("EFI PART", 5)] {
        let index = at(&other, content.as_bytes());
        assert_eq!(other[index].register, register);
        other[index].content.extend(b" of another machine");
        other[index].data = other[index].content.clone();
    }
    let order = other.iter().position(|event| event.kind == EventType::EFI_VARIABLE_BOOT2).unwrap();
    other[order] = variable(1, EventType::EFI_VARIABLE_BOOT2, "BootOrder", &[7, 0]);
    judge(&other, &rules).unwrap();
    unknown(&other, &strict());
    // The same kinds, where the firmware measures code.
    for event in [
        variable(4, EventType::EFI_VARIABLE_BOOT2, "BootOrder", &[7, 0]),
        measured(4, EventType::EFI_HANDOFF_TABLES, b"rootkit", b"rootkit"),
        measured(4, EventType::PLATFORM_CONFIG_FLAGS, b"rootkit", b"rootkit"),
        measured(9, EventType::EFI_GPT_EVENT, b"EFI PART rootkit", b"EFI PART rootkit"),
        measured(
            2,
            EventType::EFI_ACTION,
            b"Exit Boot Services Invocation",
            b"Exit Boot Services Invocation",
        ),
        variable(1, EventType::EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", &[1]),
    ] {
        let mut events = boot("1");
        events.push(event);
        unknown(&events, &rules);
    }
}

#[test]
fn what_is_demanded_must_be_there_and_all_registers_quoted() {
    let mut without = boot("1");
    without.retain(|event| event.content != b"/initramfs-1.img");
    assert_eq!(judge(&without, &strict()).unwrap_err().code, Code::BootRoleMissing);
    let events = boot("1");
    let bytes = log(&events).encode();
    for missing in QUOTED {
        let registers: Vec<u32> = QUOTED.into_iter().filter(|register| *register != missing).collect();
        let proven = replay_boot(&bytes, &quoted(&events, &registers)).unwrap();
        let refusal = proven.judge(&known(&["1"]), &strict()).unwrap_err();
        assert_eq!(refusal.code, Code::LogMissing);
        assert!(refusal.detail.contains(&format!("PCR {missing},")), "{refusal:?}");
    }
    let nothing = LogReferences::default();
    let proven = replay_boot(&bytes, &quoted(&events, &QUOTED)).unwrap();
    assert_eq!(proven.judge(&nothing, &strict()).unwrap_err().code, Code::LogReferenceMissing);
}
