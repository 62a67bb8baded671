//! What a boot log proved.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::logs::Role;

/// The result of a boot log that passed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BootReport {
    /// The hash function of the registers.
    pub bank: &'static str,
    /// Events that extended a register.
    pub events: usize,
    /// Whether Secure Boot was on; `None` if it was not measured.
    pub secure_boot: Option<bool>,
    /// The name of the kernel's reference, if a kernel was measured.
    pub kernel: Option<String>,
    /// The kernel's command line, if GRUB measured it.
    pub command_line: Option<String>,
    /// The components by role, in the order of the log; commands and GRUB's modules are only counted in `events`.
    pub components: BTreeMap<Role, Vec<Component>>,
}

/// A measured component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Position in the log, from 0.
    pub event: usize,
    /// Its name: a variable's is proven, a file's is the log's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digest.
    pub digest: String,
    /// Why it is accepted.
    pub known: Known,
}

/// Why a component is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// A reference for its role.
    Reference,
    /// A kernel's file as it is stored.
    Stored,
    /// A kernel's file after decompression.
    Unpacked,
    /// Its content is proven and harmless.
    Content,
    /// A list without roles that every policy names.
    UntypedList,
    /// Every policy leaves events of its kind unchecked.
    Unchecked,
}

impl BootReport {
    /// The object `uefi` of secGear's tokens. What is in a report is known, so every value is `true`.
    #[must_use]
    pub fn secgear(&self) -> Map<String, Value> {
        let has = |role| self.components.contains_key(&role);
        let images = [Role::Shim, Role::Grub, Role::Application];
        let images: usize = images.iter().filter_map(|role| self.components.get(role)).map(Vec::len).sum();
        let names = (0..images).map(|index| format!("Image[{index}]")).chain(
            [(Role::GrubCfg, "grub_cfg"), (Role::Kernel, "kernel"), (Role::Initramfs, "initramfs")]
                .into_iter()
                .filter(|(role, _)| has(*role))
                .map(|(_, name)| name.to_owned()),
        );
        names.map(|name| (name, Value::Bool(true))).collect()
    }
}
