//! What may have been booted, by role: a digest that is known in one role is not known in another.

use std::collections::{BTreeMap, BTreeSet};

use evidence::hash::Digest;
use serde::{Deserialize, Serialize};

use crate::logs::Role;

type Digests = BTreeSet<Digest>;

/// The expected events of measured boot. Digests are of the length of the Realm's hash algorithm; a reference may hold
/// those of several algorithms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootReferences {
    /// Parts of the firmware that it measures itself, and tables that it hands over.
    pub firmware: Digests,
    /// UEFI drivers (Authenticode).
    pub drivers: Digests,
    /// shim (Authenticode).
    pub shim: Digests,
    /// GRUB (Authenticode).
    pub grub: Digests,
    /// Other UEFI applications (Authenticode), such as shim's fallback.
    pub applications: Digests,
    /// GRUB's configuration.
    pub grub_cfg: Digests,
    /// Other files that GRUB may open: modules, fonts, lists, its environment.
    pub grub_files: Digests,
    /// Commands that GRUB may run.
    pub commands: BTreeSet<String>,
    /// Kernels, each with what belongs to it.
    pub kernels: Vec<KernelReference>,
    /// SecureBoot, PK, KEK, db, dbx and other variables that configure drivers: digests of `UEFI_VARIABLE_DATA`.
    pub secure_boot: BTreeMap<String, Digests>,
    /// Which entries of the databases vouched for images.
    pub authorities: Digests,
    /// BootOrder and boot options: digests as the firmware measures them.
    pub boot_variables: Digests,
    /// ACPI tables and other configuration of the machine.
    pub platform_config: Digests,
    /// Partition tables.
    pub partition_tables: Digests,
    /// Anything else, such as shim's lists of the machine owner's keys.
    pub other: Digests,
}

/// A kernel, and what may go with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelReference {
    /// The operator's name for it.
    pub name: String,
    /// The file as it is stored: what GRUB measures.
    pub stored: Digests,
    /// The file after decompression: what some builds of GRUB measure.
    pub unpacked: Digests,
    /// The image as the firmware measures it when it is started as a UEFI application (Authenticode).
    pub image: Digests,
    /// Initial RAM disks; none means that none may be loaded.
    pub initramfs: Digests,
    /// Command lines as GRUB measures them, with the name of the file in front.
    pub command_lines: BTreeSet<String>,
    /// Command lines as the kernel measures them when it is started as a UEFI application.
    pub load_options: Digests,
}

impl BootReferences {
    /// The digests that are known in `role`, for roles that are known by digest and do not depend on the kernel.
    pub(in crate::logs) fn of(&self, role: Role) -> Option<&Digests> {
        Some(match role {
            Role::Firmware => &self.firmware,
            Role::Driver => &self.drivers,
            Role::Shim => &self.shim,
            Role::Grub => &self.grub,
            Role::Application => &self.applications,
            Role::GrubCfg => &self.grub_cfg,
            Role::GrubFile => &self.grub_files,
            Role::Authority => &self.authorities,
            Role::BootVariable => &self.boot_variables,
            Role::PlatformConfig => &self.platform_config,
            Role::PartitionTable => &self.partition_tables,
            Role::Other => &self.other,
            Role::Kernel
            | Role::Initramfs
            | Role::CommandLine
            | Role::Command
            | Role::SecureBootVariable
            | Role::Separator
            | Role::Action => return None,
        })
    }

    /// The first of `roles` in which `digest` is known.
    pub(in crate::logs) fn role_among(&self, roles: &[Role], digest: &Digest) -> Option<Role> {
        roles.iter().copied().find(|role| self.of(*role).is_some_and(|known| known.contains(digest)))
    }

    /// Whether a boot without any kernel is not one of these: there are kernels, and all are known by a digest of their own.
    pub(in crate::logs) fn demands_a_kernel(&self) -> bool {
        !self.kernels.is_empty() && self.kernels.iter().all(KernelReference::has_kernel)
    }

    /// A role in which `digest` is known, whichever: to say what a misplaced component really is.
    pub(in crate::logs) fn any_role(&self, digest: &Digest) -> Option<Role> {
        let kernel = |has: &dyn Fn(&KernelReference) -> bool| self.kernels.iter().any(has);
        self.role_among(&Role::BY_DIGEST, digest)
            .or_else(|| {
                kernel(&|kernel| kernel.has_file(digest) || kernel.image.contains(digest))
                    .then_some(Role::Kernel)
            })
            .or_else(|| kernel(&|kernel| kernel.initramfs.contains(digest)).then_some(Role::Initramfs))
    }
}

impl KernelReference {
    /// Whether it says which kernel it is, and not only what goes with one that is known otherwise.
    fn has_kernel(&self) -> bool {
        [&self.stored, &self.unpacked, &self.image].iter().any(|digests| !digests.is_empty())
    }

    /// Whether `digest` is that of the kernel's file, in either form.
    pub(in crate::logs) fn has_file(&self, digest: &Digest) -> bool {
        self.stored.contains(digest) || self.unpacked.contains(digest)
    }
}
