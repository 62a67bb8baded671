//! What each event of a boot log is, from its type, its place and data that is proven.
//!
//! The registers prove the digests and their order within a register, and nothing else: whoever sends the log chooses the
//! types and the descriptions. So what an event is said to be only chooses *which* references it must be among, and:
//!
//! - what GRUB loads as kernel and as initial RAM disk follows from the commands and command lines around it, whose text
//!   is proven;
//! - kinds that no reference is needed for, or that a policy may leave unchecked, are confined to a register or a form in
//!   which no code can pass for them.
//!
//! On a TPM, commands and files of GRUB are in two registers, so that nothing proves which file a command has opened: there,
//! files are told by their digests alone ([`forget_order`]).

use evidence::bank::Bank;
use evidence::hash::Digest;
use evidence::tcg::{Event, EventData, EventType, GrubText, Registers, Variable};

/// One event that extended a register.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Position in the log, from 0.
    pub index: usize,
    /// What it extended its register with.
    pub digest: Digest,
    /// What it is.
    pub part: Part<'a>,
}

/// What an event is.
#[derive(Debug)]
pub enum Part<'a> {
    /// Proven: end of a phase.
    Separator,
    /// Proven: one of the announcements that every boot has.
    Action,
    /// Proven: a variable that configures drivers.
    DriverConfig(Variable<'a>),
    /// Proven: what vouched for an image.
    Authority,
    /// A boot option.
    BootVariable,
    /// ACPI tables and the like.
    PlatformConfig,
    /// Proven: a partition table.
    PartitionTable,
    /// Part of the firmware, or its tables.
    Firmware,
    /// UEFI driver.
    Driver,
    /// UEFI application, and the name of its file by the log's account.
    Application(Option<String>),
    /// Proven: a command of GRUB.
    Command(&'a [u8]),
    /// Proven: the command line for the kernel that was opened last.
    CommandLine(&'a [u8]),
    /// A file that GRUB opened, and its name by the log's account.
    File(&'a [u8]),
    /// The file that GRUB opened right before it measured the kernel's command line.
    KernelFile(&'a [u8]),
    /// A file that GRUB opened on behalf of the command `initrd`.
    InitramfsFile(&'a [u8]),
    /// A file that GRUB opened for nobody knows what, and its name by the log's account.
    AnyFile(&'a [u8]),
    /// What Linux, started as a UEFI application, was given as its command line.
    LoadOptions,
    /// What Linux, started as a UEFI application, loaded as its initial RAM disk.
    LoadedInitramfs,
    /// Anything else.
    Other,
}

/// The registers in which firmware and loaders measure each kind.
struct Places {
    /// Variables of Secure Boot, and what vouched for images.
    secure_boot: u32,
    /// Boot options, tables, and other configuration of the machine.
    configuration: u32,
    /// What the firmware says that it does.
    actions: &'static [u32],
    partition_tables: u32,
    /// GRUB's commands and the kernel's command line.
    commands: u32,
    /// The files that GRUB opens, and what Linux measures itself.
    files: u32,
    /// Where tables that the firmware hands over are configuration, and no code can be among them.
    tables: Option<u32>,
}

/// Of a confidential guest (UEFI 2.10, 38.4.1).
const MEASUREMENT: Places = Places {
    secure_boot: 1,
    configuration: 1,
    actions: &[2],
    partition_tables: 2,
    commands: 3,
    files: 3,
    tables: None,
};

/// Of a TPM (TCG PC Client Platform Firmware Profile 1.06, 3.3.4; GRUB's and Linux's documentation).
const PCR: Places = Places {
    secure_boot: 7,
    configuration: 1,
    actions: &[4, 5],
    partition_tables: 5,
    commands: 8,
    files: 9,
    tables: Some(1),
};

/// `LINUX_EFI_INITRD_MEDIA` and load options as Linux tags them (drivers/firmware/efi/libstub/efistub.h).
const INITRD_TAG: u32 = 0x8f3b_22ec;
const LOAD_OPTIONS_TAG: u32 = 0x8f3b_22ed;

/// Announcements that say nothing against a boot. Others, such as `UEFI Debug Mode`, must be known.
const USUAL_ACTIONS: [&str; 5] = [
    "Calling EFI Application from Boot Option",
    "Returning from EFI Application from Boot Option",
    "Exit Boot Services Invocation",
    "Exit Boot Services Returned with Success",
    "Exit Boot Services Returned with Failure",
];

/// Sorts events whose digests of `bank` cover what they must (see [`Event::covers`]); each with its position in the log.
/// Between registers, the order is that of the log's account.
pub fn sort<'a>(
    events: impl Iterator<Item = (usize, &'a Event<'a>)>,
    registers: Registers,
    bank: Bank,
) -> Vec<Seen<'a>> {
    let places = match registers {
        Registers::Measurement => &MEASUREMENT,
        Registers::Pcr => &PCR,
    };
    let mut seen: Vec<Seen<'a>> = Vec::new();
    // Where in `seen` the loader's last event is, and whether a command that loads initial RAM disks is under way.
    let mut last_of_loader: Option<usize> = None;
    let mut in_initrd = false;
    for (index, event) in events.filter(|(_, event)| event.extends()) {
        let Some(digest) = event.digest(bank).and_then(Digest::from_slice) else { continue };
        let mut part = part(event, places);
        if [places.commands, places.files].contains(&event.register) {
            match &part {
                Part::Command(text) => in_initrd = is_initrd(text),
                Part::CommandLine(_) => {
                    in_initrd = false;
                    if let Some(previous) = last_of_loader.and_then(|at| seen.get_mut(at))
                        && let Part::File(name) | Part::InitramfsFile(name) = previous.part
                    {
                        previous.part = Part::KernelFile(name);
                    }
                }
                Part::File(name) if in_initrd => part = Part::InitramfsFile(name),
                _ => {}
            }
            last_of_loader = Some(seen.len());
        }
        seen.push(Seen { index, digest, part });
    }
    seen
}

/// Takes back what follows from the order of events in different registers, which whoever sends the log chooses.
pub fn forget_order(seen: &mut [Seen<'_>]) {
    for event in seen {
        if let Part::File(name) | Part::KernelFile(name) | Part::InitramfsFile(name) = event.part {
            event.part = Part::AnyFile(name);
        }
    }
}

fn part<'a>(event: &'a Event<'_>, places: &Places) -> Part<'a> {
    let at = event.register;
    match (event.kind, event.decode_data()) {
        (EventType::SEPARATOR, EventData::Separator(0 | 0xffff_ffff)) => Part::Separator,
        (EventType::EFI_ACTION, EventData::Text(text))
            if places.actions.contains(&at) && USUAL_ACTIONS.contains(&text) =>
        {
            Part::Action
        }
        (EventType::EFI_VARIABLE_DRIVER_CONFIG, EventData::Variable(variable))
            if at == places.secure_boot =>
        {
            Part::DriverConfig(variable)
        }
        (EventType::EFI_VARIABLE_AUTHORITY, _) if at == places.secure_boot => Part::Authority,
        (EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2, _) if at == places.configuration => {
            Part::BootVariable
        }
        (EventType::PLATFORM_CONFIG_FLAGS | EventType::TABLE_OF_DEVICES, _) if at == places.configuration => {
            Part::PlatformConfig
        }
        (EventType::EFI_HANDOFF_TABLES | EventType::EFI_HANDOFF_TABLES2, _) if places.tables == Some(at) => {
            Part::PlatformConfig
        }
        (EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2, EventData::Other(data))
            if at == places.partition_tables && data.starts_with(b"EFI PART") =>
        {
            Part::PartitionTable
        }
        (
            EventType::S_CRTM_CONTENTS
            | EventType::S_CRTM_VERSION
            | EventType::POST_CODE
            | EventType::POST_CODE2
            | EventType::EFI_PLATFORM_FIRMWARE_BLOB
            | EventType::EFI_PLATFORM_FIRMWARE_BLOB2
            | EventType::EFI_HANDOFF_TABLES
            | EventType::EFI_HANDOFF_TABLES2,
            _,
        ) => Part::Firmware,
        (EventType::EFI_BOOT_SERVICES_DRIVER | EventType::EFI_RUNTIME_SERVICES_DRIVER, _) => Part::Driver,
        (EventType::EFI_BOOT_SERVICES_APPLICATION, data) => Part::Application(match data {
            EventData::Image(image) => image.file(),
            _ => None,
        }),
        (EventType::IPL, EventData::Grub(GrubText::KernelCommandLine(_))) if at == places.commands => {
            Part::CommandLine(text_of(event))
        }
        (EventType::IPL, EventData::Grub(_)) if at == places.commands => Part::Command(text_of(event)),
        (EventType::IPL, EventData::Name(_)) if at == places.files => {
            Part::File(event.data.strip_suffix(b"\0").unwrap_or(&event.data))
        }
        (EventType::EVENT_TAG, EventData::Tagged { id: INITRD_TAG, .. }) if at == places.files => {
            Part::LoadedInitramfs
        }
        (EventType::EVENT_TAG, EventData::Tagged { id: LOAD_OPTIONS_TAG, .. }) if at == places.files => {
            Part::LoadOptions
        }
        _ => Part::Other,
    }
}

fn text_of<'a>(event: &'a Event<'_>) -> &'a [u8] {
    GrubText::decode(&event.data).map_or(&[], |text| text.measured())
}

/// GRUB's commands that open initial RAM disks, by any of their names.
fn is_initrd(command: &[u8]) -> bool {
    let word = command.split(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(word, b"initrd" | b"initrd16" | b"initrdefi" | b"xen_initrd")
}
