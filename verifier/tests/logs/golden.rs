//! References from the logs of a boot that somebody vouches for.

use evidence::ima::{LogWriter, Template};
use evidence::tcg::{EventType, GrubText};
use verifier::Code;
use verifier::logs::{self, LogReferences};

use crate::harness::{
    COMMAND_LINE, Guest, application, code, digest, file, grub, set, sha256, strict, strict_ima, tag,
};

fn golden(guest: &Guest) -> Result<LogReferences, verifier::Refusal> {
    let log = guest.log().encode_area(0x4000);
    let boot = guest.boot_log.then_some(&log[..]);
    logs::attest(boot, guest.ima.as_deref(), guest.hash, &guest.rems())?.references("release 7")
}

/// The name of the file that the firmware started.
fn named(mut guest: Guest, event: &str, file: &str) -> Guest {
    let path: Vec<u8> = file.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let length = u16::try_from(path.len() + 4).unwrap().to_le_bytes();
    // A media device path of a file, and the end of the path (UEFI 2.10, 10.3.5.4 and 10.3.1).
    let device_path = [&[4, 4][..], &length, &path, &[0x7f, 0xff, 4, 0]].concat();
    guest.at(event).data =
        evidence::tcg::Image { location: 1, length: 2, link_time_address: 0, device_path: &device_path }
            .encode();
    guest
}

fn usual() -> Guest {
    let guest = named(Guest::with_ima(), "shim", r"\EFI\BOOT\BOOTAA64.EFI");
    named(guest, "grub", r"\EFI\debian\grubaa64.efi")
}

#[test]
fn the_guest_passes_by_its_own_references_under_the_strictest_rules() {
    let guest = usual();
    let references = golden(&guest).unwrap();
    let report = guest.appraise(&references, &strict_ima()).unwrap();
    assert_eq!(report.boot.unwrap().kernel.as_deref(), Some("release 7"));
    assert_eq!(report.ima.unwrap().files, 2);
    let text = serde_json::to_string(&references).unwrap();
    assert_eq!(serde_json::from_str::<LogReferences>(&text).unwrap(), references);
}

#[test]
fn every_component_is_known_in_its_role_only() {
    let boot = golden(&usual()).unwrap().boot.unwrap();
    let only = |found: &std::collections::BTreeSet<_>, content: &[u8]| {
        assert_eq!(found.iter().collect::<Vec<_>>(), [&digest(content)]);
    };
    only(&boot.shim, b"shim");
    only(&boot.grub, b"grub");
    only(&boot.grub_cfg, b"linux; initrd; boot");
    only(&boot.grub_files, b"module");
    only(&boot.drivers, b"driver");
    only(&boot.other, b"owner's keys");
    only(&boot.platform_config, b"tables");
    only(&boot.partition_tables, b"EFI PART");
    assert_eq!(boot.secure_boot.len(), 5);
    let [kernel] = &boot.kernels[..] else { panic!("{:?}", boot.kernels) };
    only(&kernel.stored, b"kernel");
    only(&kernel.initramfs, b"initramfs");
    assert_eq!(kernel.command_lines.iter().collect::<Vec<_>>(), [COMMAND_LINE]);
    assert!(boot.applications.is_empty() && boot.firmware.is_empty());
}

#[test]
fn a_guest_that_differs_in_anything_does_not_pass() {
    let references = golden(&usual()).unwrap();
    for event in [
        "SecureBoot",
        "driver",
        "acpi",
        "BootOrder",
        "authority",
        "partitions",
        "shim",
        "grub",
        "grub.cfg",
        "kernel",
    ] {
        let mut other = usual();
        other.at(event).content.push(1);
        if matches!(event, "SecureBoot" | "authority" | "partitions") {
            other.at(event).data = other.at(event).content.clone();
        }
        assert!(other.appraise(&references, &strict_ima()).is_err(), "{event}");
    }
    let mut log = LogWriter::default();
    log.measure(4, Template::ImaNg, sha256(digest(b"another").as_bytes()), b"/usr/bin/one", &[]);
    let mut other = usual();
    other.set_ima(log);
    assert_eq!(code(other.appraise(&references, &strict_ima())).0, Code::ImaEntryUnknown);
}

#[test]
fn a_kernel_that_the_firmware_starts_is_told_by_what_it_measures() {
    let mut guest = usual();
    for event in ["linux", "linux.mod", "kernel", "command line", "initrd", "initramfs"] {
        guest.remove(event);
    }
    let at = "Exit Boot Services Invocation";
    guest.insert_before(at, application("linux", b"kernel as an application"));
    guest.insert_before(at, tag("options", 0x8f3b_22ed, b"root=/dev/vda2"));
    guest.insert_before(at, tag("initrd", 0x8f3b_22ec, b"initramfs"));
    let references = golden(&guest).unwrap();
    let kernel = &references.boot.as_ref().unwrap().kernels[0];
    assert!(kernel.image.contains(&digest(b"kernel as an application")));
    assert!(kernel.load_options.contains(&digest(b"root=/dev/vda2")));
    assert!(set(b"initramfs").contains(kernel.initramfs.first().unwrap()));
    assert!(guest.appraise(&references, &strict()).is_ok());
    // Started by what did not measure it, it can say what it wants.
    guest.remove("linux");
    assert_eq!(golden(&guest).unwrap_err().code, Code::BootSequence);
    guest.remove("options");
    assert_eq!(golden(&guest).unwrap_err().code, Code::BootSequence);
}

/// As GRUB 2.12 does on PCs: it measures the file, and the firmware the image.
#[test]
fn a_kernel_that_grub_has_the_firmware_start_is_one_kernel() {
    let mut guest = usual();
    guest.insert_before("command line", application("image", b"kernel as an application"));
    let at = "Exit Boot Services Invocation";
    guest.insert_before(at, tag("options", 0x8f3b_22ed, b"root=/dev/vda2"));
    guest.insert_before(at, tag("given", 0x8f3b_22ec, b"initramfs"));
    let references = golden(&guest).unwrap();
    let [kernel] = &references.boot.as_ref().unwrap().kernels[..] else { panic!("{references:?}") };
    assert_eq!(kernel.stored.len(), 1);
    assert!(kernel.image.contains(&digest(b"kernel as an application")));
    assert!(guest.appraise(&references, &strict()).is_ok());
    guest.at("image").content.push(b'!');
    assert_eq!(code(guest.appraise(&references, &strict())).0, Code::BootEventUnknown);
}

#[test]
fn what_no_reference_can_say_is_an_error() {
    let refused = |change: &dyn Fn(&mut Guest)| {
        let mut guest = usual();
        change(&mut guest);
        golden(&guest).map(drop).map_err(|refusal| refusal.code)
    };
    let ima = |write: &dyn Fn(&mut LogWriter)| {
        let write = |guest: &mut Guest| {
            let mut log = LogWriter::default();
            log.measure(4, Template::ImaNg, sha256(&[1; 32]), b"/usr/bin/one", &[]);
            write(&mut log);
            log.measure(4, Template::ImaNg, sha256(&[2; 32]), b"/usr/bin/two", &[]);
            guest.set_ima(log);
        };
        refused(&write)
    };
    assert_eq!(ima(&|_| ()), Ok(()));
    assert_eq!(ima(&|log| log.violate(4, b"/etc/passwd")), Err(Code::ImaViolation));
    let other_register = |log: &mut LogWriter| {
        log.measure(10, Template::ImaNg, sha256(&[3; 32]), b"/usr/bin/three", &[]);
    };
    assert_eq!(ima(&other_register), Err(Code::ImaEntryUnattested));
    let no_text = |log: &mut LogWriter| log.measure(4, Template::ImaNg, sha256(&[3; 32]), b"/\xff", &[]);
    assert_eq!(ima(&no_text), Err(Code::ImaEntryUnknown));
    let command =
        |guest: &mut Guest| guest.insert_before("linux", grub("odd", GrubText::Command(b"echo \xff")));
    assert_eq!(refused(&command), Err(Code::BootEventUnknown));
    let second = |guest: &mut Guest| {
        guest.insert_before("linux", file("other", "/vmlinuz-2", b"kernel 2"));
        guest.insert_before("linux", grub("line", GrubText::KernelCommandLine(b"/vmlinuz-2 ro")));
    };
    assert_eq!(refused(&second), Err(Code::BootSequence));
    let mut foreign = usual();
    foreign.at("kernel").kind = EventType::IPL;
    let log = foreign.log().encode_area(0x4000);
    foreign.at("kernel").content.push(1);
    let untrue = logs::attest(Some(&log), None, foreign.hash, &foreign.rems()).map(drop);
    assert_eq!(untrue.unwrap_err().code, Code::LogMismatch, "references come from true logs only");
}
