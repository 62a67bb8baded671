//! The packages of which the PC is made.

use std::path::{Path, PathBuf};

use arm_host::packages::{Kernel, unpacked};
use arm_host::selection::{Group, Selection};

use crate::Result;

/// The kernel for clouds has the TPM's driver built in, so that IMA finds it.
const SELECTION: Selection = Selection {
    directory: "packages",
    title: "PC kernel, boot loader and firmware",
    architecture: "amd64",
    groups: &[
        Group { wanted: &["linux-image-cloud-amd64"], kept: &["linux-image-"] },
        Group {
            wanted: &["busybox-static", "ovmf", "shim-signed", "grub-efi-amd64-signed"],
            kept: &["busybox-static", "ovmf", "shim-signed", "grub-efi-amd64-signed"],
        },
    ],
};

/// Unpacked packages.
#[derive(Clone, Debug)]
pub struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Gives the packages kept under `cache`, fetching them with apt only when they are not there.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn fetch(cache: &Path) -> Result<Self> {
        Ok(Self { root: SELECTION.fetch(cache)? })
    }

    pub(crate) fn kernel(&self) -> Result<Kernel> {
        Ok(Kernel::find(&self.root)?)
    }

    pub(crate) fn busybox(&self) -> Result<PathBuf> {
        Ok(unpacked(&self.root, "usr/bin/busybox")?)
    }

    /// Firmware that keeps its variables to itself, and variables with Secure Boot by Microsoft's keys.
    pub(crate) fn firmware(&self) -> Result<[PathBuf; 2]> {
        Ok([
            unpacked(&self.root, "usr/share/OVMF/OVMF_CODE_4M.secboot.fd")?,
            unpacked(&self.root, "usr/share/OVMF/OVMF_VARS_4M.ms.fd")?,
        ])
    }

    /// What the firmware starts, and what that starts.
    pub(crate) fn shim_and_grub(&self) -> Result<[PathBuf; 2]> {
        Ok([
            unpacked(&self.root, "usr/lib/shim/shimx64.efi.signed")?,
            unpacked(&self.root, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")?,
        ])
    }
}
