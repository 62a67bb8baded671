//! `/dev/tsi`, through which a virtCCA guest gets its attestation token and the certificate of its platform.
//!
//! The structures and request codes are those of openEuler's kernel (`arch/arm64/kernel/virtcca_cvm_tsi.c`,
//! `asm/virtcca_cvm_tsi.h`). This crate has the only `unsafe` code of the agent; it knows nothing of ours.
//!
//! - [`TsiCalls`]: the three requests, as the kernel has them
//! - [`Device`]: the real device
//! - [`Tsi`]: what an agent asks; it checks what the device answers
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod abi;
mod device;
#[cfg(feature = "simulated")]
mod simulated;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use abi::{CertificateRequest, TokenRequest, Version};
pub use device::{DEFAULT_PATH, Device};
#[cfg(feature = "simulated")]
pub use simulated::{Answers, Misbehaviour, SimulatedDevice};

/// Length of a challenge, in bytes.
pub const CHALLENGE_LEN: usize = 64;
/// Longest token, in bytes: two granules.
pub const MAX_TOKEN_LEN: usize = 8192;
/// Longest device certificate, in bytes.
pub const MAX_CERTIFICATE_LEN: usize = 4096;
/// The major version of the interface that this crate speaks.
pub const MAJOR_VERSION: i32 = 1;

/// The requests of `/dev/tsi`.
pub trait TsiCalls: Send + Sync {
    /// `TMM_GET_TSI_VERSION`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn version(&self) -> io::Result<Version>;
    /// `TMM_GET_ATTESTATION_TOKEN`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn attestation_token(&self, request: &mut TokenRequest) -> io::Result<()>;
    /// `TMM_GET_DEVICE_CERT`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn device_certificate(&self, request: &mut CertificateRequest) -> io::Result<()>;
}

impl<T: TsiCalls + ?Sized> TsiCalls for Box<T> {
    fn version(&self) -> io::Result<Version> {
        (**self).version()
    }

    fn attestation_token(&self, request: &mut TokenRequest) -> io::Result<()> {
        (**self).attestation_token(request)
    }

    fn device_certificate(&self, request: &mut CertificateRequest) -> io::Result<()> {
        (**self).device_certificate(request)
    }
}

/// Why the device gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("the request {request} failed")]
    Request {
        /// The kernel's name of the request.
        request: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not know a request.
    #[error(
        "the kernel does not know the request {request} as this agent makes it (error ENOTTY): the guest kernel is \
         older or newer than the virtCCA interface of openEuler 24.03"
    )]
    Unknown {
        /// The kernel's name of the request.
        request: &'static str,
    },
    /// Another generation of the interface.
    #[error("the device speaks version {major}.{minor} of its interface; {MAJOR_VERSION}.x was expected")]
    Version {
        /// Major version found.
        major: i32,
        /// Minor version found.
        minor: i32,
    },
    /// An answer claims more bytes than its buffer has, or none.
    #[error("the device says that {what} has {found} bytes; 1 to {limit} were expected")]
    Length {
        /// What the answer is.
        what: &'static str,
        /// The length that the device gives.
        found: u64,
        /// The longest that there can be.
        limit: usize,
    },
}

const ENOTTY: i32 = 25;

/// A device whose answers are checked. Its users take turns: the kernel keeps one token buffer for all of them.
#[derive(Debug)]
pub struct Tsi<C = Device>(Mutex<C>);

impl Tsi {
    /// Opens the device at `path`, usually [`DEFAULT_PATH`].
    ///
    /// # Errors
    /// If there is none, or it may not be opened.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        Device::open(path).map(Self::new)
    }
}

impl<C: TsiCalls> Tsi<C> {
    /// Asks through `calls`.
    #[must_use]
    pub const fn new(calls: C) -> Self {
        Self(Mutex::new(calls))
    }

    fn calls(&self) -> MutexGuard<'_, C> {
        // The calls keep no state of ours.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attestation token that answers `challenge`, and the certificate of the platform that vouches for it.
    ///
    /// # Errors
    /// If the device fails, speaks another version or breaks its interface.
    pub fn evidence(&self, challenge: &[u8; CHALLENGE_LEN]) -> Result<Evidence, Error> {
        let calls = self.calls();
        let version = calls.version().map_err(failed("TMM_GET_TSI_VERSION"))?;
        if version.major != MAJOR_VERSION {
            return Err(Error::Version { major: version.major, minor: version.minor });
        }
        let mut request = TokenRequest::new(challenge);
        calls.attestation_token(&mut request).map_err(failed("TMM_GET_ATTESTATION_TOKEN"))?;
        let token = answer("the token", &request.token, request.token_size)?;
        let mut request = CertificateRequest::new();
        calls.device_certificate(&mut request).map_err(failed("TMM_GET_DEVICE_CERT"))?;
        let device_certificate = answer("the device certificate", &request.value, request.size)?;
        Ok(Evidence { token, device_certificate })
    }
}

/// What the device gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The attestation token, CBOR.
    pub token: Vec<u8>,
    /// The device certificate, DER or PEM.
    pub device_certificate: Vec<u8>,
}

fn failed(request: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| match source.raw_os_error() {
        Some(ENOTTY) => Error::Unknown { request },
        _ => Error::Request { request, source },
    }
}

fn answer(what: &'static str, buffer: &[u8], len: u64) -> Result<Vec<u8>, Error> {
    usize::try_from(len)
        .ok()
        .filter(|len| *len > 0)
        .and_then(|len| buffer.get(..len))
        .map(<[u8]>::to_vec)
        .ok_or(Error::Length { what, found: len, limit: buffer.len() })
}

#[cfg(test)]
mod tests;
