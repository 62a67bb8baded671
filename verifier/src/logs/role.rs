//! The roles that a measured component can have.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a measured component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Part of the firmware, or a table that it hands over.
    Firmware,
    /// UEFI driver.
    Driver,
    /// shim.
    Shim,
    /// GRUB.
    Grub,
    /// Another UEFI application.
    Application,
    /// GRUB's configuration.
    GrubCfg,
    /// Another file that GRUB opened.
    GrubFile,
    /// A command that GRUB ran.
    Command,
    /// Kernel.
    Kernel,
    /// Initial RAM disk.
    Initramfs,
    /// The kernel's command line.
    CommandLine,
    /// A variable that configures drivers, such as Secure Boot's.
    SecureBootVariable,
    /// An entry of Secure Boot's databases that vouched for an image.
    Authority,
    /// BootOrder or a boot option.
    BootVariable,
    /// ACPI table or other configuration of the machine.
    PlatformConfig,
    /// Partition table.
    PartitionTable,
    /// End of a phase.
    Separator,
    /// What the firmware said that it did.
    Action,
    /// Anything else.
    Other,
}

impl Role {
    /// The roles that are known by digest alone.
    pub(super) const BY_DIGEST: [Self; 12] = [
        Self::Firmware,
        Self::Driver,
        Self::Shim,
        Self::Grub,
        Self::Application,
        Self::GrubCfg,
        Self::GrubFile,
        Self::Authority,
        Self::BootVariable,
        Self::PlatformConfig,
        Self::PartitionTable,
        Self::Other,
    ];

    /// The name in policies and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Driver => "driver",
            Self::Shim => "shim",
            Self::Grub => "grub",
            Self::Application => "application",
            Self::GrubCfg => "grub_cfg",
            Self::GrubFile => "grub_file",
            Self::Command => "command",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::CommandLine => "command_line",
            Self::SecureBootVariable => "secure_boot_variable",
            Self::Authority => "authority",
            Self::BootVariable => "boot_variable",
            Self::PlatformConfig => "platform_config",
            Self::PartitionTable => "partition_table",
            Self::Separator => "separator",
            Self::Action => "action",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
