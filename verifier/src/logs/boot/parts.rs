//! What each event of a boot log is, from its type, its place and data that is proven.
//!
//! The registers prove the digests and their order within a register, and nothing else: whoever sends the log chooses the
//! types and the descriptions. So what an event is said to be only chooses *which* references it must be among, and:
//!
//! - what GRUB loads as kernel and as initial RAM disk follows from the commands and command lines around it, whose text
//!   is proven;
//! - kinds that no reference is needed for, or that a policy may leave unchecked, are confined to a register or a form in
//!   which no code can pass for them.

use evidence::bank::Bank;
use evidence::hash::Digest;
use evidence::tcg::{Event, EventData, EventLog, EventType, GrubText, Variable};

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
    /// What Linux, started as a UEFI application, was given as its command line.
    LoadOptions,
    /// What Linux, started as a UEFI application, loaded as its initial RAM disk.
    LoadedInitramfs,
    /// Anything else.
    Other,
}

/// The registers of a confidential guest in which firmware measures each kind (UEFI 2.10, 38.4.1).
const CONFIGURATION: u32 = 1;
const IMAGES: u32 = 2;
const LOADER: u32 = 3;

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

/// Sorts the events of a log whose digests of `bank` cover what they must (see [`Event::covers`]).
pub fn sort<'a>(log: &'a EventLog<'_>, bank: Bank) -> Vec<Seen<'a>> {
    let mut seen: Vec<Seen<'a>> = Vec::with_capacity(log.events.len());
    // Where in `seen` the loader's last event is, and whether a command that loads initial RAM disks is under way.
    let mut last_of_loader: Option<usize> = None;
    let mut in_initrd = false;
    for (index, event) in log.events.iter().enumerate().filter(|(_, event)| event.extends()) {
        let Some(digest) = event.digest(bank).and_then(Digest::from_slice) else { continue };
        let mut part = part(event);
        if event.register == LOADER {
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

fn part<'a>(event: &'a Event<'_>) -> Part<'a> {
    match (event.kind, event.register, event.decode_data()) {
        (EventType::SEPARATOR, _, EventData::Separator(0 | 0xffff_ffff)) => Part::Separator,
        (EventType::EFI_ACTION, IMAGES, EventData::Text(text)) if USUAL_ACTIONS.contains(&text) => {
            Part::Action
        }
        (EventType::EFI_VARIABLE_DRIVER_CONFIG, CONFIGURATION, EventData::Variable(variable)) => {
            Part::DriverConfig(variable)
        }
        (EventType::EFI_VARIABLE_AUTHORITY, CONFIGURATION, _) => Part::Authority,
        (EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2, CONFIGURATION, _) => {
            Part::BootVariable
        }
        (EventType::PLATFORM_CONFIG_FLAGS | EventType::TABLE_OF_DEVICES, CONFIGURATION, _) => {
            Part::PlatformConfig
        }
        (EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2, IMAGES, EventData::Other(data))
            if data.starts_with(b"EFI PART") =>
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
            _,
        ) => Part::Firmware,
        (EventType::EFI_BOOT_SERVICES_DRIVER | EventType::EFI_RUNTIME_SERVICES_DRIVER, _, _) => Part::Driver,
        (EventType::EFI_BOOT_SERVICES_APPLICATION, _, data) => Part::Application(match data {
            EventData::Image(image) => image.file(),
            _ => None,
        }),
        (EventType::IPL, LOADER, EventData::Grub(GrubText::KernelCommandLine(_))) => {
            Part::CommandLine(text_of(event))
        }
        (EventType::IPL, LOADER, EventData::Grub(_)) => Part::Command(text_of(event)),
        (EventType::IPL, LOADER, EventData::Name(_)) => {
            Part::File(event.data.strip_suffix(b"\0").unwrap_or(&event.data))
        }
        (EventType::EVENT_TAG, LOADER, EventData::Tagged { id: INITRD_TAG, .. }) => Part::LoadedInitramfs,
        (EventType::EVENT_TAG, LOADER, EventData::Tagged { id: LOAD_OPTIONS_TAG, .. }) => Part::LoadOptions,
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
