//! Why a device certificate is not believed.

use super::certificate::MAX_CERTIFICATES;
use super::pins::PinMismatch;
use crate::refusal::Code;

/// Why a device certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Not certificates.
    #[error(
        "the device certificate must be one X.509 certificate in DER, or 1 to {MAX_CERTIFICATES} in PEM, the device's \
         first: {reason}"
    )]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A key that cannot sign tokens.
    #[error("the device's key must be an RSA key or on P-256, P-384 or P-521; its algorithm is {algorithm}")]
    Key {
        /// The object identifier found.
        algorithm: String,
    },
    /// The operator has installed nothing.
    #[error("no certificate authorities are installed: add the vendor's root and sub CA to the trust bundle")]
    NoAuthorities,
    /// No installed root is at the end of any path.
    #[error(
        "no path leads from the device certificate, issued by {issuer:?}, to an installed root: install the vendor's \
         root and sub CA if the device is genuine ({reason})"
    )]
    Untrusted {
        /// Issuer of the device certificate.
        issuer: String,
        /// What was wrong with the best path.
        reason: String,
    },
    /// Not valid yet, or not any more.
    #[error(
        "{certificate} {} {limit} (Unix time), and now it is {now}",
        if *.expired { "expired at" } else { "is not valid before" }
    )]
    Dates {
        /// Which certificate.
        certificate: String,
        /// Whether it is too late, or too early.
        expired: bool,
        /// The end of its validity, or the beginning.
        limit: i64,
        /// The verifier's clock.
        now: i64,
    },
    /// On a revocation list.
    #[error(
        "a certificate of the chain is on its issuer's revocation list: this device must not be trusted any more"
    )]
    Revoked,
    /// A revocation list cannot be used.
    #[error("a certificate revocation list of the chain cannot be used ({reason}): install a current one")]
    RevocationList {
        /// What is wrong with it.
        reason: String,
    },
    /// Issued against the rules.
    #[error("{certificate} must not stand where it stands in the chain: {rule}")]
    Constraint {
        /// Which certificate.
        certificate: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// A forged or unknown edition of a published authority.
    #[error(transparent)]
    Pin(#[from] PinMismatch),
}

impl ChainError {
    /// The machine code of the refusal.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } | Self::Key { .. } => Code::CertificateMalformed,
            Self::NoAuthorities | Self::Untrusted { .. } => Code::CertificateUntrusted,
            Self::Dates { .. } => Code::CertificateExpired,
            Self::Revoked => Code::CertificateRevoked,
            Self::RevocationList { .. } => Code::RevocationUnknown,
            Self::Constraint { .. } => Code::CertificateConstraint,
            Self::Pin(_) => Code::CertificatePinMismatch,
        }
    }
}
