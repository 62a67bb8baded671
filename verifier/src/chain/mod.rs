//! Certificate chains of devices: X.509 path validation (RFC 5280 section 6) from a device certificate to a root that an
//! operator has installed.
//!
//! Path building, signatures, names, dates, basic constraints, path lengths, critical extensions and revocation lists are
//! those of `rustls-webpki`. What it leaves out is checked here on every path that it finds: key usage, and the root's own
//! dates and constraints. Certificates that claim to be a vendor's published authority must be that very certificate
//! ([`pins`]).

mod bundle;
mod cache;
mod certificate;
mod describe;
mod error;
mod path;
mod pins;

use std::sync::Arc;

pub use bundle::{Authority, BundleError, TrustBundle};
pub use certificate::{DeviceKey, MAX_CERTIFICATES, Signer};
pub use describe::{Description, RevocationDescription, describe, describe_revocation_lists};
pub use error::ChainError;
pub use path::{Device, Purpose};
pub use pins::{Fingerprint, FingerprintError};

use crate::refusal::StoreError;

/// Where the certificate authorities are that an operator believes.
pub trait CertificateTrust: Send + Sync {
    /// The bundle of now. A bundle remembers the chains that it has validated; whoever reloads it makes a new one.
    ///
    /// # Errors
    /// [`StoreError`] if there is none because it cannot be read; none because nothing was installed is an empty bundle.
    fn bundle(&self) -> Result<Arc<TrustBundle>, StoreError>;
}

/// A bundle that never changes.
impl CertificateTrust for Arc<TrustBundle> {
    fn bundle(&self) -> Result<Arc<TrustBundle>, StoreError> {
        Ok(Self::clone(self))
    }
}
