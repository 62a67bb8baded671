//! What was booted.

use evidence::bank::Bank;
use evidence::hash::{Digest, HashAlgorithm};
use evidence::tcg::{EventType, GrubText};
use verifier::Code;
use verifier::logs::{BootReferences, BootRules, Explained, Known, LogReferences, LogRules, Role, Unchecked};

use crate::harness::*;

#[test]
fn accepts_the_boot_that_was_expected_and_says_what_it_was() {
    let report = Guest::usual().appraise(&references(), &strict()).unwrap();
    use Explained::{Boot, Zero};
    assert_eq!(report.registers, [Boot, Boot, Boot, Zero]);
    let boot = report.boot.unwrap();
    assert_eq!((boot.kernel.as_deref(), boot.secure_boot), (Some("1"), Some(true)));
    assert_eq!(boot.command_line.as_deref(), Some(COMMAND_LINE));
    assert_eq!(boot.events, Guest::usual().boot.len());
    let kernel = &boot.components[&Role::Kernel][0];
    assert_eq!((&*kernel.digest, kernel.known), (&*digest(b"kernel").to_string(), Known::Stored));
    assert_eq!(boot.components[&Role::SecureBootVariable].len(), 5);
    let uefi = serde_json::json!({
        "Image[0]": true, "Image[1]": true, "grub_cfg": true, "kernel": true, "initramfs": true,
    });
    assert_eq!(serde_json::Value::Object(boot.secgear()), uefi);
}

#[test]
fn a_kernel_is_known_by_its_unpacked_form_too_and_the_report_says_which() {
    let mut guest = Guest::usual();
    guest.at("kernel").content = b"kernel, unpacked".to_vec();
    let boot = guest.appraise(&references(), &strict()).unwrap().boot.unwrap();
    assert_eq!(boot.components[&Role::Kernel][0].known, Known::Unpacked);
}

#[test]
fn registers_of_sha512_are_held_against_the_sha512_digests_of_the_log() {
    let guest = Guest { hash: HashAlgorithm::Sha512, ..Guest::usual() };
    assert_eq!(guest.appraise(&references(), &strict()).unwrap().boot.unwrap().bank, "sha512");
    let without = Guest { banks: vec![Bank::Sha256], ..guest };
    let (code, detail) = without.refused();
    assert_eq!(code, Code::LogMalformed);
    assert!(detail.contains("no sha512 digest"), "{detail}");
}

#[test]
fn t8_a_ccel_without_a_kernel_is_refused_when_policy_or_reference_has_one() {
    let mut guest = Guest::usual();
    for name in ["kernel", "command line", "initrd", "initramfs"] {
        guest.remove(name);
    }
    let (found, detail) = guest.refused();
    assert_eq!(found, Code::BootRoleMissing);
    assert!(detail.contains("kernel") || detail.contains("initramfs"), "{detail}");
    let mut references = references();
    let (found, detail) = code(guest.appraise(&references, &LogRules::default()));
    assert_eq!(found, Code::BootRoleMissing);
    assert!(detail.contains("did not measure it"), "{detail}");
    references.boot.as_mut().unwrap().kernels.clear();
    guest.appraise(&references, &LogRules::default()).expect("no kernel is known and no role demanded");
}

#[test]
fn every_role_that_policy_demands_must_be_there() {
    let parts: [(Role, &[&str]); 7] = [
        (Role::Shim, &["shim"]),
        (Role::Grub, &["grub"]),
        (Role::GrubCfg, &["grub.cfg"]),
        (Role::Kernel, &["kernel"]),
        (Role::Initramfs, &["initramfs"]),
        (Role::CommandLine, &["command line", "kernel"]),
        (Role::SecureBootVariable, &["dbx"]),
    ];
    for (role, names) in parts {
        let mut guest = Guest::usual();
        names.iter().for_each(|name| guest.remove(name));
        let mut rules = LogRules::default();
        rules.boot.roles.insert(role);
        let (code, detail) = code(guest.appraise(&references(), &rules));
        assert!(code == Code::BootRoleMissing || names.contains(&"kernel"), "{role}: {detail}");
    }
}

#[test]
fn t8_an_initramfs_presented_as_kernel_is_refused() {
    let mut guest = Guest::usual();
    guest.at("kernel").content = b"initramfs".to_vec();
    let (code, detail) = guest.refused();
    assert_eq!(code, Code::BootEventUnknown);
    assert!(detail.contains("is not known in this role, although it is known as initramfs"), "{detail}");
}

#[test]
fn no_component_passes_in_the_role_of_another() {
    for (name, as_if) in [
        ("kernel", &b"module"[..]),
        ("initramfs", b"kernel"),
        ("grub", b"driver"),
        ("driver", b"grub"),
        ("linux.mod", b"kernel"),
        ("linux.mod", b"initramfs"),
        ("grub", b"initramfs"),
        ("acpi", b"grub"),
        ("MokList", b"kernel"),
        ("shim", b"tables"),
        ("kernel", b"kernel, as an application"),
    ] {
        let mut guest = Guest::usual();
        guest.at(name).content = as_if.to_vec();
        assert_eq!(guest.refused().0, Code::BootEventUnknown, "{name}");
    }
}

#[test]
fn anything_that_nobody_registered_is_refused_wherever_it_stands() {
    for event in Guest::usual().boot {
        let proven = matches!(event.name, "separator")
            || event.name.contains("Exit")
            || event.name.contains("Calling");
        if proven {
            continue;
        }
        let mut guest = Guest::usual();
        let known = guest.at(event.name);
        known.content = [&known.content[..], b"!"].concat();
        if matches!(known.kind, EventType::EFI_VARIABLE_DRIVER_CONFIG | EventType::EFI_VARIABLE_AUTHORITY) {
            *known = Measured { name: known.name, kind: known.kind, ..variable(known.name, b"another") };
        }
        if known.data.starts_with(b"grub_cmd: ") {
            known.data = [b"grub_cmd: ", &known.content[..], b"\0"].concat();
        } else if known.data.starts_with(b"kernel_cmdline: ") {
            known.data = [b"kernel_cmdline: ", &known.content[..], b"\0"].concat();
        } else if known.name == "partitions" {
            known.data = known.content.clone();
        } else if known.name == "BootOrder" {
            *known = Measured { content: vec![9], kind: known.kind, ..variable("BootOrder", &[9]) };
        }
        let (code, detail) = guest.refused();
        assert_eq!(code, Code::BootEventUnknown, "{}: {detail}", event.name);
    }
}

/// What secGear accepts: it stops looking once it has seen a kernel, an initramfs and a grub.cfg.
#[test]
fn a_second_kernel_typed_into_grubs_shell_is_refused_known_or_not() {
    for content in [&b"another kernel"[..], b"kernel", b"kernel 2"] {
        let mut guest = Guest::usual();
        guest.insert_before("Exit Boot Services Invocation", file("kernel again", "/vmlinuz-1", content));
        let line = GrubText::KernelCommandLine(COMMAND_LINE.as_bytes());
        guest.insert_before("Exit Boot Services Invocation", grub("line again", line));
        assert_eq!(guest.refused().0, Code::BootSequence);
    }
}

#[test]
fn an_unknown_file_command_or_application_after_the_kernel_is_refused() {
    for event in [
        file("file", "/custom.cfg", b"menuentry evil"),
        grub("command", GrubText::Command(b"boot")),
        application("application", b"chain loader"),
        measured("event", 3, EventType::COMPACT_HASH, b"x", b"x"),
        measured("event", 2, EventType::EFI_ACTION, b"UEFI Debug Mode", b"UEFI Debug Mode"),
    ] {
        let mut guest = Guest::usual();
        guest.insert_before("Exit Boot Services Returned with Success", event.clone());
        let (code, detail) = guest.refused();
        assert_eq!(code, Code::BootEventUnknown, "{detail}");
    }
}

#[test]
fn kernel_initramfs_and_command_line_must_be_of_one_reference() {
    let mut guest = Guest::usual();
    guest.at("initramfs").content = b"initramfs 2".to_vec();
    let (code, detail) = guest.refused();
    assert_eq!(code, Code::BootEventUnknown);
    assert!(detail.contains("goes with another kernel"), "{detail}");
    guest.at("kernel").content = b"kernel 2".to_vec();
    assert_eq!(guest.appraise(&references(), &strict()).unwrap().boot.unwrap().kernel.as_deref(), Some("2"));
}

#[test]
fn another_command_line_is_refused() {
    let mut guest = Guest::usual();
    let line = [COMMAND_LINE, " init=/bin/sh"].concat();
    *guest.at("command line") = grub("command line", GrubText::KernelCommandLine(line.as_bytes()));
    assert_eq!(guest.refused().0, Code::BootEventUnknown);
}

#[test]
fn a_command_line_does_not_pass_as_a_command_nor_a_command_as_a_command_line() {
    let mut guest = Guest::usual();
    let text = b"set timeout=0";
    *guest.at("command line") = grub("command line", GrubText::KernelCommandLine(text));
    assert_eq!(guest.refused().0, Code::BootEventUnknown);
    let mut guest = Guest::usual();
    *guest.at("timeout") = grub("timeout", GrubText::Command(COMMAND_LINE.as_bytes()));
    assert_eq!(guest.refused().0, Code::BootEventUnknown);
}

/// A kernel that the firmware starts as an application, from its own or from GRUB's hand.
fn started_as_application() -> Guest {
    let mut guest = Guest::usual();
    for name in ["linux", "linux.mod", "kernel", "command line", "initrd", "initramfs"] {
        guest.remove(name);
    }
    for event in [
        application("kernel", b"kernel, as an application"),
        tag("load options", 0x8f3b_22ed, COMMAND_LINE.as_bytes()),
        tag("initrd", 0x8f3b_22ec, b"initramfs"),
    ] {
        guest.insert_before("Exit Boot Services Invocation", event);
    }
    guest
}

#[test]
fn a_kernel_started_as_an_application_is_appraised_alike() {
    let boot = started_as_application().appraise(&references(), &strict()).unwrap().boot.unwrap();
    assert_eq!(boot.kernel.as_deref(), Some("1"));
    for (name, content) in
        [("kernel", &b"kernel 2, as an application"[..]), ("load options", b"x"), ("initrd", b"initramfs 2")]
    {
        let mut guest = started_as_application();
        guest.at(name).content = content.to_vec();
        assert_eq!(guest.refused().0, Code::BootEventUnknown, "{name}");
    }
    let mut twice = started_as_application();
    twice.insert_before("kernel", application("first", b"kernel 2, as an application"));
    assert_eq!(twice.refused().0, Code::BootSequence);
}

/// As OVMF starts what Secure Boot does not let it load: what Linux says of its initial RAM disk is all that the log has.
#[test]
fn a_kernel_that_nobody_measured_does_not_pass_by_what_it_says_of_itself() {
    let mut guest = started_as_application();
    guest.remove("kernel");
    assert_eq!(code(guest.appraise(&references(), &LogRules::default())).0, Code::BootRoleMissing);
    // A kernel that is known otherwise, such as by the initial measurement.
    let mut references = references();
    for kernel in &mut references.boot.as_mut().unwrap().kernels {
        (kernel.stored, kernel.unpacked, kernel.image) = Default::default();
    }
    guest.appraise(&references, &LogRules::default()).unwrap();
}

#[test]
fn secure_boot_must_have_been_on_throughout_if_policy_demands_it() {
    let mut references = references();
    let off = variable("SecureBoot", &[0]);
    let known = &mut references.boot.as_mut().unwrap().secure_boot;
    known.get_mut("SecureBoot").unwrap().extend(set(&off.content));
    let mut guest = Guest::usual();
    *guest.at("SecureBoot") = off.clone();
    assert_eq!(code(guest.appraise(&references, &strict())).0, Code::SecureBootOff);
    let mut guest = Guest::usual();
    guest.insert_before("Exit Boot Services Invocation", off);
    assert_eq!(code(guest.appraise(&references, &strict())).0, Code::SecureBootOff);
    let mut guest = Guest::usual();
    guest.remove("SecureBoot");
    let mut rules = LogRules::default();
    rules.boot.secure_boot = true;
    assert_eq!(code(guest.appraise(&references, &rules)).0, Code::SecureBootOff);
}

#[test]
fn a_separator_that_reports_an_error_is_not_a_usual_one() {
    let mut guest = Guest::usual();
    let error = guest.at("separator");
    (error.content, error.data) = (vec![1, 0, 0, 0], vec![1, 0, 0, 0]);
    assert_eq!(guest.refused().0, Code::BootEventUnknown);
}

#[test]
fn what_differs_between_machines_may_be_left_unchecked_by_name() {
    for (kind, name, content) in [
        (Unchecked::PlatformConfig, "acpi", &b"other tables"[..]),
        (Unchecked::BootVariable, "BootOrder", &[2, 0]),
        (Unchecked::PartitionTable, "partitions", b"EFI PART of a larger disk"),
    ] {
        let mut guest = Guest::usual();
        let event = guest.at(name);
        event.content = content.to_vec();
        event.data = match name {
            "BootOrder" => variable("BootOrder", content).data,
            "acpi" => event.data.clone(),
            _ => content.to_vec(),
        };
        assert_eq!(guest.refused().0, Code::BootEventUnknown, "{name}");
        guest.appraise(&references(), &unchecked(kind)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    }
}

#[test]
fn nothing_passes_as_a_kind_that_is_left_unchecked() {
    for (kind, name, event_type) in [
        (Unchecked::PlatformConfig, "kernel", EventType::PLATFORM_CONFIG_FLAGS),
        (Unchecked::PlatformConfig, "grub", EventType::PLATFORM_CONFIG_FLAGS),
        (Unchecked::PartitionTable, "grub", EventType::EFI_GPT_EVENT),
        (Unchecked::PartitionTable, "kernel", EventType::EFI_GPT_EVENT),
    ] {
        let mut guest = Guest::usual();
        let event = guest.at(name);
        event.content = b"MZ evil".to_vec();
        event.data = event.content.clone();
        event.kind = event_type;
        let (code, detail) = code(guest.appraise(&references(), &unchecked(kind)));
        assert_eq!(code, Code::BootEventUnknown, "{name}: {detail}");
    }
    // The value of a boot variable is proven, and can be a whole kernel: it must be in the register of variables.
    for (name, register) in [("kernel", 3), ("grub", 2)] {
        let mut guest = Guest::usual();
        let event = guest.at(name);
        *event = Measured { register, content: b"evil".to_vec(), ..variable("Boot0001", b"evil") };
        event.kind = EventType::EFI_VARIABLE_BOOT;
        let (code, _) = code(guest.appraise(&references(), &unchecked(Unchecked::BootVariable)));
        assert_eq!(code, Code::BootEventUnknown, "{name}");
    }
}

#[test]
fn a_list_without_roles_counts_only_if_every_policy_names_it() {
    let mut guest = Guest::usual();
    guest.at("kernel").content = b"listed".to_vec();
    let mut references = references();
    references.untyped.insert("digest_list_file".to_owned(), set(b"listed"));
    let mut named = strict();
    named.boot.untyped_lists.insert("digest_list_file".to_owned());
    let boot = guest.appraise(&references, &named).unwrap().boot.unwrap();
    assert_eq!(boot.components[&Role::Kernel][0].known, Known::UntypedList);
    for rules in [strict(), LogRules::strictest([&named, &strict()])] {
        assert_eq!(code(guest.appraise(&references, &rules)).0, Code::BootEventUnknown);
    }
    // As secGear has it: all digests in one list, and no role known.
    let all = guest.boot.iter().map(|event| digest(&event.content)).collect();
    let list =
        LogReferences { untyped: [("digest_list_file".to_owned(), all)].into(), ..LogReferences::default() };
    named.boot.roles = [Role::Kernel, Role::Initramfs, Role::SecureBootVariable, Role::Command].into();
    let boot = guest.appraise(&list, &named).unwrap().boot.unwrap();
    assert_eq!((boot.kernel, boot.secure_boot), (None, Some(true)));
    named.boot.untyped_lists = ["another".to_owned()].into();
    assert_eq!(code(guest.appraise(&list, &named)).0, Code::LogReferenceMissing);
    assert_eq!(code(guest.appraise(&references, &named)).0, Code::BootEventUnknown);
}

#[test]
fn policies_together_demand_what_any_demands_and_allow_what_all_allow() {
    let lax = LogRules { unexplained_registers: true, ..unchecked(Unchecked::PlatformConfig) };
    assert_eq!(LogRules::strictest([&lax, &lax]), lax);
    let both = LogRules::strictest([&lax, &strict_ima()]);
    assert!(both.ima.required && both.boot.required && both.boot.secure_boot);
    assert!(both.boot.unchecked.is_empty() && !both.unexplained_registers);
    assert_eq!(both.boot.roles, strict().boot.roles);
    assert_eq!(LogRules::strictest([]), LogRules::default());

    let rules = |role, list: &str, lax: bool| {
        let lists = || [list.to_owned(), "both".to_owned()].into();
        let mut rules = LogRules { unexplained_registers: lax, ..LogRules::default() };
        (rules.boot.required, rules.boot.secure_boot, rules.ima.required) = (lax, lax, lax);
        (rules.boot.roles, rules.boot.untyped_lists) = ([role].into(), lists());
        (rules.ima.violations, rules.ima.untyped_lists) = (lax, lists());
        rules
    };
    let (one, other) = (rules(Role::Kernel, "one", true), rules(Role::Shim, "other", false));
    for both in [LogRules::strictest([&one, &other]), LogRules::strictest([&other, &one])] {
        assert!(both.boot.required && both.boot.secure_boot && both.ima.required);
        assert!(!both.ima.violations && !both.unexplained_registers);
        assert_eq!(both.boot.roles, [Role::Kernel, Role::Shim].into());
        for lists in [both.boot.untyped_lists, both.ima.untyped_lists] {
            assert_eq!(lists, ["both".to_owned()].into());
        }
    }
}

#[test]
fn a_demanded_log_needs_references_and_references_need_the_log() {
    let nothing = LogReferences::default();
    assert_eq!(code(Guest::usual().appraise(&nothing, &strict())).0, Code::LogReferenceMissing);
    let accepted = Guest::usual().appraise(&nothing, &LogRules::default()).unwrap();
    assert_eq!(accepted.boot, None);
    let silent = Guest { boot: Vec::new(), boot_log: false, ..Guest::usual() };
    for rules in [strict(), LogRules::default()] {
        assert_eq!(code(silent.appraise(&references(), &rules)).0, Code::LogMissing);
    }
    let empty = LogReferences { boot: Some(BootReferences::default()), ..nothing };
    assert_eq!(code(Guest::usual().appraise(&empty, &LogRules::default())).0, Code::BootEventUnknown);
}

#[test]
fn each_demand_of_a_policy_demands_the_log() {
    let zero = [Digest::zero(HASH); 4];
    let missing = |boot: BootRules| {
        let rules = LogRules { boot, ..LogRules::default() };
        let logs = verifier::logs::attest(None, None, HASH, &zero).unwrap();
        logs.judge(None, [false; 4], &rules).map(drop).map_err(|refusal| refusal.code)
    };
    assert_eq!(missing(BootRules::default()), Ok(()));
    for rules in [
        BootRules { required: true, ..BootRules::default() },
        BootRules { roles: [Role::Kernel].into(), ..BootRules::default() },
        BootRules { secure_boot: true, ..BootRules::default() },
    ] {
        assert_eq!(missing(rules.clone()), Err(Code::LogMissing), "{rules:?}");
    }
}
