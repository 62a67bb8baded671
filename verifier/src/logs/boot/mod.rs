//! Measured boot: every event of the log must be known in its role, and the roles that a policy demands must be there.

mod kernel;
pub(super) mod parts;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use evidence::bank::Bank;
use evidence::hash::Digest;
use evidence::tcg::{Event, Registers, Variable};

pub use report::{BootReport, Component, Known};

use super::references::{BootReferences, KernelReference, LogReferences};
use super::rules::{BootRules, Unchecked};
use super::{Role, Unknown, refuse};
use crate::refusal::{Code, Refusal, Subject};
use kernel::Loaded;
use parts::{Part, Seen};

/// Variables that decide whether Secure Boot means anything.
const SECURE_BOOT_VARIABLES: [&str; 5] = ["SecureBoot", "PK", "KEK", "db", "dbx"];

/// Judges events that registers of `bank` attest, each with its position in the log.
pub fn judge<'a>(
    events: impl Iterator<Item = (usize, &'a Event<'a>)>,
    registers: Registers,
    bank: Bank,
    references: &LogReferences,
    rules: &BootRules,
) -> Result<BootReport, Refusal> {
    let nothing = BootReferences::default();
    let boot = match &references.boot {
        Some(boot) => boot,
        None if references.has_any(&rules.untyped_lists) => &nothing,
        None => {
            return Err(refuse(
                Code::LogReferenceMissing,
                "the reference has no values for the boot log: register them (logs.boot)",
            ));
        }
    };
    let mut seen = parts::sort(events, registers, bank);
    if registers == Registers::Pcr {
        parts::forget_order(&mut seen);
    }
    let loaded = Loaded::find(&seen, boot);
    if let Some(second) = loaded.second() {
        return Err(refuse(
            Code::BootSequence,
            format!(
                "event {} loads a second kernel, and only the last was started: boot with one kernel",
                second.index
            ),
        ));
    }
    let kernel = loaded.reference();
    let judge = Judge { references, boot, rules, kernel };
    let mut components: BTreeMap<Role, Vec<Component>> = BTreeMap::new();
    let mut unknown = Unknown::new("event");
    let mut command_line = None;
    let mut roles = BTreeSet::new();
    for event in &seen {
        let (role, known) = judge.event(event);
        roles.insert(role);
        let name = name(&event.part);
        match known {
            None => {
                let complaint = || judge.complaint(event, role, name.as_deref());
                let position = u64::try_from(event.index).unwrap_or(u64::MAX);
                unknown.add(event.index, complaint, || Subject::boot_event(position, &complaint()));
            }
            Some(_) if matches!(role, Role::Command | Role::GrubFile | Role::Separator | Role::Action) => {}
            Some(known) => {
                let component =
                    Component { event: event.index, name, digest: event.digest.to_string(), known };
                components.entry(role).or_default().push(component);
            }
        }
        if let Part::CommandLine(text) = event.part {
            command_line = std::str::from_utf8(text).ok().map(str::to_owned);
        }
    }
    unknown.refuse(Code::BootEventUnknown)?;
    // Firmware and loaders can start a kernel without measuring it, so that nothing unknown is in the log.
    if boot.demands_a_kernel() && !roles.contains(&Role::Kernel) {
        return Err(refuse(
            Code::BootRoleMissing,
            "the reference has kernels, and the boot log has none: Linux was started by what did not measure it",
        ));
    }
    let secure_boot = secure_boot(&seen);
    check_roles(&rules.roles, &roles, &components)?;
    if rules.secure_boot && secure_boot != Some(true) {
        return Err(refuse(
            Code::SecureBootOff,
            match secure_boot {
                None => "policy demands Secure Boot, and the boot log does not say whether it was on",
                _ => "policy demands Secure Boot, and it was off: the variable SecureBoot is not 1",
            },
        ));
    }
    Ok(BootReport {
        bank: bank.name(),
        events: seen.len(),
        secure_boot,
        kernel: kernel.map(|kernel| kernel.name.clone()),
        command_line,
        components,
    })
}

/// What an event is held against.
struct Judge<'a> {
    references: &'a LogReferences,
    boot: &'a BootReferences,
    rules: &'a BootRules,
    kernel: Option<&'a KernelReference>,
}

impl Judge<'_> {
    /// The role of an event, and why it is accepted in it, if it is.
    fn event(&self, event: &Seen<'_>) -> (Role, Option<Known>) {
        let Seen { digest, part, .. } = event;
        let among = |roles: &[Role]| self.boot.role_among(roles, digest);
        let by_reference = |known: bool| known.then_some(Known::Reference);
        let unchecked = |kind| self.rules.unchecked.contains(&kind).then_some(Known::Unchecked);
        // The first of the roles is what the event is called if it is in none.
        let of = |roles: &[Role], default: Role| match among(roles) {
            Some(role) => (role, Some(Known::Reference)),
            None => (default, None),
        };
        let kernel = |knows: &dyn Fn(&KernelReference) -> bool| by_reference(self.kernel.is_some_and(knows));
        let (role, known) = match part {
            Part::Separator => (Role::Separator, Some(Known::Content)),
            Part::Action => (Role::Action, Some(Known::Content)),
            Part::DriverConfig(variable) => {
                let known = self.boot.secure_boot.get(&variable.name);
                (Role::SecureBootVariable, by_reference(known.is_some_and(|known| known.contains(digest))))
            }
            Part::Authority => of(&[Role::Authority], Role::Authority),
            Part::BootVariable => {
                let (role, known) = of(&[Role::BootVariable], Role::BootVariable);
                (role, known.or_else(|| unchecked(Unchecked::BootVariable)))
            }
            Part::PlatformConfig => {
                let (role, known) = of(&[Role::PlatformConfig], Role::PlatformConfig);
                (role, known.or_else(|| unchecked(Unchecked::PlatformConfig)))
            }
            Part::PartitionTable => {
                let (role, known) = of(&[Role::PartitionTable], Role::PartitionTable);
                (role, known.or_else(|| unchecked(Unchecked::PartitionTable)))
            }
            Part::Firmware => of(&[Role::Firmware], Role::Firmware),
            Part::Driver => of(&[Role::Driver], Role::Driver),
            Part::Application(_) if kernel::is_image(self.boot, digest) => {
                (Role::Kernel, kernel(&|kernel| kernel.image.contains(digest)))
            }
            Part::Application(_) => of(&[Role::Shim, Role::Grub, Role::Application], Role::Application),
            Part::Command(text) => {
                let text = std::str::from_utf8(text);
                (Role::Command, by_reference(text.is_ok_and(|text| self.boot.commands.contains(text))))
            }
            // shim measures its own lists under the same type.
            Part::File(_) => of(&[Role::GrubCfg, Role::GrubFile, Role::Other], Role::GrubFile),
            Part::KernelFile(_) => (Role::Kernel, self.kernel_file(digest)),
            Part::AnyFile(_) => match self.kernel_file(digest) {
                Some(known) => (Role::Kernel, Some(known)),
                None if self.kernel.is_some_and(|kernel| kernel.initramfs.contains(digest)) => {
                    (Role::Initramfs, Some(Known::Reference))
                }
                None => of(&[Role::GrubCfg, Role::GrubFile, Role::Other], Role::GrubFile),
            },
            Part::InitramfsFile(_) | Part::LoadedInitramfs => {
                (Role::Initramfs, kernel(&|kernel| kernel.initramfs.contains(digest)))
            }
            Part::CommandLine(text) => {
                let text = std::str::from_utf8(text).unwrap_or_default();
                (Role::CommandLine, kernel(&|kernel| kernel.command_lines.contains(text)))
            }
            Part::LoadOptions => (Role::CommandLine, kernel(&|kernel| kernel.load_options.contains(digest))),
            Part::Other => of(&[Role::Other], Role::Other),
        };
        let listed = || self.references.untyped_has(&self.rules.untyped_lists, digest);
        (role, known.or_else(|| listed().then_some(Known::UntypedList)))
    }

    fn kernel_file(&self, digest: &Digest) -> Option<Known> {
        let kernel = self.kernel?;
        let stored = kernel.stored.contains(digest).then_some(Known::Stored);
        stored.or_else(|| kernel.unpacked.contains(digest).then_some(Known::Unpacked))
    }

    fn complaint(&self, event: &Seen<'_>, role: Role, name: Option<&str>) -> String {
        let name = name.map(|name| format!(" {name:?}")).unwrap_or_default();
        let really = match self.boot.any_role(&event.digest) {
            Some(other) if other != role => format!(", although it is known as {other}"),
            Some(_) => ", but goes with another kernel".to_owned(),
            None => String::new(),
        };
        format!("{role}{name} with digest {} is not known in this role{really}", event.digest)
    }
}

fn name(part: &Part<'_>) -> Option<String> {
    const LONGEST: usize = 200;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(LONGEST).collect();
    match part {
        Part::DriverConfig(variable) => Some(variable.name.chars().take(LONGEST).collect()),
        Part::Application(file) => file.as_ref().map(|file| file.chars().take(LONGEST).collect()),
        Part::Command(bytes)
        | Part::CommandLine(bytes)
        | Part::File(bytes)
        | Part::AnyFile(bytes)
        | Part::KernelFile(bytes)
        | Part::InitramfsFile(bytes) => Some(text(bytes)),
        _ => None,
    }
}

/// The value of the variable, which its digest proves; it counts only if it is the same wherever it was measured.
fn secure_boot(seen: &[Seen<'_>]) -> Option<bool> {
    let values: BTreeSet<bool> = seen
        .iter()
        .filter_map(|event| match &event.part {
            Part::DriverConfig(Variable { vendor: Variable::GLOBAL, name, value })
                if name == "SecureBoot" =>
            {
                Some(*value == [1])
            }
            _ => None,
        })
        .collect();
    let all_on = values.iter().all(|on| *on);
    (!values.is_empty()).then_some(all_on)
}

fn check_roles(
    demanded: &BTreeSet<Role>,
    present: &BTreeSet<Role>,
    components: &BTreeMap<Role, Vec<Component>>,
) -> Result<(), Refusal> {
    for role in demanded {
        let has = |variable: &&str| {
            let found = components.get(role).map_or(&[][..], Vec::as_slice);
            found.iter().any(|component| component.name.as_deref() == Some(variable))
        };
        let missing = match role {
            Role::SecureBootVariable => SECURE_BOOT_VARIABLES
                .iter()
                .find(|variable| !has(variable))
                .map(|variable| format!("the variable {variable}")),
            role => (!present.contains(role)).then(|| format!("a component in the role {role}")),
        };
        if let Some(missing) = missing {
            return Err(refuse(
                Code::BootRoleMissing,
                format!("policy demands {missing}, which the boot log does not have: was it measured?"),
            ));
        }
    }
    Ok(())
}
