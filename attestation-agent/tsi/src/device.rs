//! The real device.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};

use crate::TsiCalls;
use crate::abi::{CertificateRequest, TokenRequest, Version};

/// Where the kernel module `tmm_tsi` puts the device.
pub const DEFAULT_PATH: &str = "/dev/tsi";

const MAGIC: u8 = b'T';
pub(crate) const GET_VERSION: Opcode = opcode::read::<Version>(MAGIC, 0);
pub(crate) const GET_TOKEN: Opcode = opcode::read_write::<TokenRequest>(MAGIC, 1);
pub(crate) const GET_CERTIFICATE: Opcode = opcode::read::<CertificateRequest>(MAGIC, 2);

/// An open `/dev/tsi`.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens the device at `path`.
    ///
    /// # Errors
    /// If there is none, or it may not be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }
}

impl TsiCalls for Device {
    fn version(&self) -> io::Result<Version> {
        // SAFETY: the request code says that the kernel writes a structure of this size, which has no invalid values.
        let request = unsafe { Getter::<GET_VERSION, Version>::new() };
        // SAFETY: as above; the kernel keeps no reference to the structure.
        Ok(unsafe { ioctl(&self.0, request) }?)
    }

    fn attestation_token(&self, request: &mut TokenRequest) -> io::Result<()> {
        // SAFETY: the request code says that the kernel reads and writes a structure of this size, which the exclusive
        // reference keeps alive during the call, and which has no invalid values.
        let request = unsafe { Updater::<GET_TOKEN, TokenRequest>::new(request) };
        // SAFETY: as above; the kernel keeps no reference to the structure.
        Ok(unsafe { ioctl(&self.0, request) }?)
    }

    fn device_certificate(&self, request: &mut CertificateRequest) -> io::Result<()> {
        // SAFETY: the request code says that the kernel writes a structure of this size, which the exclusive reference
        // keeps alive during the call, and which has no invalid values.
        let request = unsafe { Updater::<GET_CERTIFICATE, CertificateRequest>::new(request) };
        // SAFETY: as above; the kernel keeps no reference to the structure.
        Ok(unsafe { ioctl(&self.0, request) }?)
    }
}
