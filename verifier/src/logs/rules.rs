//! What a policy demands of logs. Everything that loosens a demand is named, and holds only if every policy names it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Role;

/// The rules of one policy about logs. The default demands no log, but refuses any that is not true and a register that
/// nothing explains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogRules {
    /// The log of measured boot.
    pub boot: BootRules,
    /// Linux's measurement list.
    pub ima: ImaRules,
    /// Accept extensible measurements that are not zero and that neither a log nor the reference explains.
    pub unexplained_registers: bool,
}

/// The rules about measured boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootRules {
    /// Evidence without the log is refused.
    pub required: bool,
    /// Each of these must have been measured, and be known. `secure_boot_variable` stands for all of SecureBoot, PK, KEK,
    /// db and dbx.
    pub roles: BTreeSet<Role>,
    /// Secure Boot must be on.
    pub secure_boot: bool,
    /// Of these kinds, events need not be known.
    pub unchecked: BTreeSet<Unchecked>,
    /// Lists without roles that count: see [`super::LogReferences::untyped`].
    pub untyped_lists: BTreeSet<String>,
}

/// Kinds of events that differ between machines that run the same software. None of them is code, and each is confined to
/// a register or a form in which no code can pass for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unchecked {
    /// ACPI tables and the like: they depend on the machine's devices.
    PlatformConfig,
    /// BootOrder and the boot options.
    BootVariable,
    /// The partition table of the boot disk.
    PartitionTable,
}

/// The rules about IMA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImaRules {
    /// Evidence without the list, or whose registers attest no entry of it, is refused.
    pub required: bool,
    /// Accept violations: files that changed while they were measured.
    pub violations: bool,
    /// Lists without paths that count: see [`super::LogReferences::untyped`].
    pub untyped_lists: BTreeSet<String>,
}

impl LogRules {
    /// The rules of several policies together: what one demands is demanded, what all allow is allowed. No policy at all
    /// allows nothing.
    #[must_use]
    pub fn strictest<'a>(policies: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut policies = policies.into_iter();
        let Some(first) = policies.next() else { return Self::default() };
        policies.fold(first.clone(), |all, rules| Self {
            boot: BootRules {
                required: all.boot.required || rules.boot.required,
                roles: &all.boot.roles | &rules.boot.roles,
                secure_boot: all.boot.secure_boot || rules.boot.secure_boot,
                unchecked: &all.boot.unchecked & &rules.boot.unchecked,
                untyped_lists: &all.boot.untyped_lists & &rules.boot.untyped_lists,
            },
            ima: ImaRules {
                required: all.ima.required || rules.ima.required,
                violations: all.ima.violations && rules.ima.violations,
                untyped_lists: &all.ima.untyped_lists & &rules.ima.untyped_lists,
            },
            unexplained_registers: all.unexplained_registers && rules.unexplained_registers,
        })
    }
}
