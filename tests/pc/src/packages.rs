//! The packages of which the PC is made.

use std::path::{Path, PathBuf};

use arm_host::packages::{Kernel, unpacked};
use arm_host::selection::{Group, Selection};

use crate::Result;

/// The kernel for clouds has the TPM's driver built in, so that IMA finds it.
const SELECTION: Selection = Selection {
    directory: "packages",
    title: "PC kernel and firmware",
    architecture: "amd64",
    groups: &[
        Group { wanted: &["linux-image-cloud-amd64"], kept: &["linux-image-"] },
        Group { wanted: &["busybox-static", "ovmf"], kept: &["busybox-static", "ovmf"] },
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

    /// Firmware that keeps its variables to itself, and variables with Secure Boot by the key of [`Self::signer`].
    pub(crate) fn firmware(&self) -> Result<[PathBuf; 2]> {
        Ok([
            unpacked(&self.root, "usr/share/OVMF/OVMF_CODE_4M.secboot.fd")?,
            unpacked(&self.root, "usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd")?,
        ])
    }

    /// A key of which everybody knows the password, and its certificate.
    pub(crate) fn signer(&self) -> Result<[PathBuf; 2]> {
        Ok([
            unpacked(&self.root, "usr/share/ovmf/PkKek-1-snakeoil.key")?,
            unpacked(&self.root, "usr/share/ovmf/PkKek-1-snakeoil.pem")?,
        ])
    }
}
