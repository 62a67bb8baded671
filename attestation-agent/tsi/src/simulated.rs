//! A device in memory. It is strict about what it is asked, as the kernel is, and can be told to misbehave.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::TsiCalls;
use crate::abi::{CertificateRequest, TokenRequest, Version};

/// What the trusted monitor behind the device answers.
pub trait Answers: Send + Sync {
    /// A token that carries `challenge`.
    fn token(&self, challenge: &[u8; 64]) -> Vec<u8>;
    /// The certificate of the platform.
    fn device_certificate(&self) -> Vec<u8>;
}

/// What the device does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Every request fails with this errno.
    Fails(i32),
    /// The version is another one.
    Version(i32, i32),
    /// The token claims this length.
    TokenSize(u64),
    /// The certificate claims this length.
    CertificateSize(u64),
}

/// A simulated `/dev/tsi`.
pub struct SimulatedDevice<A> {
    answers: A,
    misbehaviour: Option<Misbehaviour>,
    busy: AtomicBool,
}

const EBUSY: i32 = 16;
const EFBIG: i32 = 27;

impl<A: Answers> SimulatedDevice<A> {
    /// A device that behaves.
    pub const fn new(answers: A) -> Self {
        Self { answers, misbehaviour: None, busy: AtomicBool::new(false) }
    }

    /// A device that does something wrong.
    pub const fn misbehaving(answers: A, misbehaviour: Misbehaviour) -> Self {
        Self { answers, misbehaviour: Some(misbehaviour), busy: AtomicBool::new(false) }
    }

    /// Runs one request; two at a time fail, so that a user that does not take turns is noticed.
    fn alone<T>(&self, request: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if let Some(Misbehaviour::Fails(errno)) = self.misbehaviour {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(io::Error::from_raw_os_error(EBUSY));
        }
        let result = request();
        self.busy.store(false, Ordering::Release);
        result
    }
}

fn fill(buffer: &mut [u8], value: &[u8]) -> io::Result<u64> {
    buffer.get_mut(..value.len()).ok_or_else(|| io::Error::from_raw_os_error(EFBIG))?.copy_from_slice(value);
    Ok(value.len() as u64)
}

impl<A: Answers> TsiCalls for SimulatedDevice<A> {
    fn version(&self) -> io::Result<Version> {
        self.alone(|| match self.misbehaviour {
            Some(Misbehaviour::Version(major, minor)) => Ok(Version { major, minor }),
            _ => Ok(Version { major: 1, minor: 0 }),
        })
    }

    fn attestation_token(&self, request: &mut TokenRequest) -> io::Result<()> {
        self.alone(|| {
            let token = self.answers.token(&request.challenge);
            request.token_size = fill(&mut request.token, &token)?;
            if let Some(Misbehaviour::TokenSize(size)) = self.misbehaviour {
                request.token_size = size;
            }
            Ok(())
        })
    }

    fn device_certificate(&self, request: &mut CertificateRequest) -> io::Result<()> {
        self.alone(|| {
            request.size = fill(&mut request.value, &self.answers.device_certificate())?;
            if let Some(Misbehaviour::CertificateSize(size)) = self.misbehaviour {
                request.size = size;
            }
            Ok(())
        })
    }
}
