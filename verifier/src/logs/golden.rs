//! References from the logs of a boot that an operator vouches for.

use evidence::bank::Bank;
use evidence::ima::{BOOT_AGGREGATE, ValidLog};
use evidence::tcg::{EventLog, Registers};

use super::boot::parts::{self, Part, Seen};
use super::references::{BootReferences, ImaReferences, KernelReference, LogReferences};
use super::registers::REGISTERS;
use super::{TrueLogs, refuse};
use crate::refusal::{Code, Refusal};

/// What shim measures of the machine owner's lists (shim's `mok.c` and `sbat.c`), beside the files that GRUB opens.
const LISTS_OF_SHIM: [&[u8]; 5] = [b"MokList", b"MokListX", b"MokListTrusted", b"MokSBState", b"SbatLevel"];

impl TrueLogs<'_> {
    /// The references by which this boot and these files pass, and nothing else does; `kernel` is the name of the kernel's
    /// entry.
    ///
    /// Which application is shim and which is GRUB, and which file is GRUB's configuration, is told by their names. Who
    /// vouches for the boot vouches for these, too.
    ///
    /// # Errors
    /// What no reference can say: files that were changed while they were measured, registers that nothing attests, names
    /// that are not UTF-8.
    pub fn references(&self, kernel: &str) -> Result<LogReferences, Refusal> {
        let logs = &self.0;
        let boot = |log: &EventLog<'_>| boot(log, Registers::Measurement, logs.bank, kernel);
        let boot = logs.boot.as_ref().map(boot).transpose()?;
        let ima = logs.ima.as_ref().filter(|ima| ima.any);
        let ima = ima.map(|ima| files(&ima.log, ima.entries)).transpose()?;
        Ok(LogReferences { boot, ima, ..LogReferences::default() })
    }
}

/// The references by which a boot passes, whose kernel is called `name`.
pub fn boot(
    log: &EventLog<'_>,
    registers: Registers,
    bank: Bank,
    name: &str,
) -> Result<BootReferences, Refusal> {
    let seen = parts::sort(log.events.iter().enumerate(), registers, bank);
    let started = started_kernel(&seen);
    let mut boot = BootReferences::default();
    let mut kernel = KernelReference { name: name.to_owned(), ..KernelReference::default() };
    for (at, Seen { index, digest, part }) in seen.iter().enumerate() {
        let known = match part {
            Part::Separator | Part::Action => continue,
            Part::DriverConfig(variable) => boot.secure_boot.entry(variable.name.clone()).or_default(),
            Part::Authority => &mut boot.authorities,
            Part::BootVariable => &mut boot.boot_variables,
            Part::PlatformConfig => &mut boot.platform_config,
            Part::PartitionTable => &mut boot.partition_tables,
            Part::Firmware => &mut boot.firmware,
            Part::Driver => &mut boot.drivers,
            Part::Application(_) if started == Some(at) => &mut kernel.image,
            Part::Application(file) => match file.as_deref().map(application) {
                Some(Application::Shim) => &mut boot.shim,
                Some(Application::Grub) => &mut boot.grub,
                Some(Application::Other) | None => &mut boot.applications,
            },
            Part::Command(text) => {
                boot.commands.insert(utf8(text, *index)?);
                continue;
            }
            Part::CommandLine(text) => {
                kernel.command_lines.insert(utf8(text, *index)?);
                continue;
            }
            Part::File(name) if LISTS_OF_SHIM.contains(name) => &mut boot.other,
            Part::File(name) if name.ends_with(b"/grub.cfg") => &mut boot.grub_cfg,
            Part::File(_) | Part::AnyFile(_) => &mut boot.grub_files,
            Part::KernelFile(_) => &mut kernel.stored,
            Part::InitramfsFile(_) | Part::LoadedInitramfs => &mut kernel.initramfs,
            Part::LoadOptions => &mut kernel.load_options,
            Part::Other => &mut boot.other,
        };
        known.insert(*digest);
    }
    // GRUB measures the file, and the firmware the image if it is what GRUB has start it.
    if kernel.stored.len() > 1 || kernel.image.len() > 1 {
        return Err(refuse(
            Code::BootSequence,
            "the boot log has several kernels: boot with one, as guests must, and take its logs",
        ));
    }
    if !kernel.stored.is_empty() || !kernel.image.is_empty() {
        boot.kernels.push(kernel);
    } else if kernel != (KernelReference { name: name.to_owned(), ..KernelReference::default() }) {
        return Err(refuse(
            Code::BootSequence,
            "the boot log says what Linux was given and not which kernel it is: it was started by what did not measure it, so \
             nobody can vouch for it; with Secure Boot, is the kernel signed?",
        ));
    }
    Ok(boot)
}

/// Where the kernel is that the firmware started: the last application before Linux says what it was given, unless that is
/// GRUB, which has started one without measuring it then.
fn started_kernel(seen: &[Seen<'_>]) -> Option<usize> {
    let says =
        seen.iter().position(|event| matches!(event.part, Part::LoadOptions | Part::LoadedInitramfs))?;
    let last = seen.get(..says)?.iter().enumerate().rev().find_map(|(at, event)| match &event.part {
        Part::Application(file) => Some((at, file.as_deref().map(application))),
        _ => None,
    });
    last.filter(|(_, kind)| !matches!(kind, Some(Application::Grub))).map(|(at, _)| at)
}

enum Application {
    Shim,
    Grub,
    Other,
}

/// By the names that distributions give them. The file of removable media (`BOOTAA64.EFI`) is shim where there is one.
fn application(file: &str) -> Application {
    let file = file.rsplit(['\\', '/']).next().unwrap_or_default().to_ascii_lowercase();
    if file.starts_with("grub") {
        Application::Grub
    } else if file.starts_with("shim") || file.starts_with("boot") {
        Application::Shim
    } else {
        Application::Other
    }
}

fn utf8(text: &[u8], index: usize) -> Result<String, Refusal> {
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| {
        refuse(
            Code::BootEventUnknown,
            format!("event {index} of the boot log is not UTF-8, so no reference can name it"),
        )
    })
}

fn files(log: &ValidLog<'_>, attested: usize) -> Result<ImaReferences, Refusal> {
    let mut references = ImaReferences::default();
    for (index, entry) in log.entries().take(attested).enumerate() {
        let path = String::from_utf8_lossy(entry.path);
        if entry.is_violation() {
            return Err(refuse(
                Code::ImaViolation,
                format!("entry {index}: {path:?} was changed while it was measured; boot again"),
            ));
        }
        let aggregate = entry.path == BOOT_AGGREGATE;
        if aggregate && entry.digest.value.iter().all(|byte| *byte == 0) {
            continue;
        }
        if !aggregate && !REGISTERS.contains(&entry.pcr) {
            return Err(refuse(
                Code::ImaEntryUnattested,
                format!(
                    "entry {index} is for register {}, which no extensible measurement attests: the IMA policy must \
                     measure into registers 1 to 4 (pcr=)",
                    entry.pcr
                ),
            ));
        }
        let reference = entry.digest.to_string().parse().map_err(|error| {
            refuse(Code::ImaEntryUnknown, format!("entry {index} cannot be a reference: {error}"))
        })?;
        if aggregate {
            references.boot_aggregate.push(reference);
            continue;
        }
        let path = std::str::from_utf8(entry.path).map_err(|_| {
            refuse(Code::ImaEntryUnknown, format!("entry {index}: the path {path:?} is not UTF-8"))
        })?;
        references.files.insert(path, &reference);
    }
    Ok(references)
}
