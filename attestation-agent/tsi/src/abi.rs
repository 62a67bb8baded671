//! The structures of the requests, as the kernel lays them out.

use crate::{CHALLENGE_LEN, MAX_CERTIFICATE_LEN, MAX_TOKEN_LEN};

/// `struct virtcca_cvm_tsi_version`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Changes when callers must.
    pub major: i32,
    /// Changes when something is added.
    pub minor: i32,
}

/// `struct virtcca_cvm_attestation_cmd`.
#[repr(C)]
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Asked: the bytes that the token must carry.
    pub challenge: [u8; CHALLENGE_LEN],
    /// Answered: the token.
    pub token: [u8; MAX_TOKEN_LEN],
    /// Answered: its length, in bytes.
    pub token_size: u64,
}

impl TokenRequest {
    /// A request for a token that answers `challenge`.
    #[must_use]
    pub const fn new(challenge: &[u8; CHALLENGE_LEN]) -> Self {
        Self { challenge: *challenge, token: [0; MAX_TOKEN_LEN], token_size: 0 }
    }
}

/// `struct virtcca_device_cert`.
#[repr(C)]
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    /// Answered: the certificate's length, in bytes.
    pub size: u64,
    /// Answered: the certificate.
    pub value: [u8; MAX_CERTIFICATE_LEN],
}

impl CertificateRequest {
    /// A request for the certificate.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, value: [0; MAX_CERTIFICATE_LEN] }
    }
}

impl Default for CertificateRequest {
    fn default() -> Self {
        Self::new()
    }
}
