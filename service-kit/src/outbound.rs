//! TLS to servers that this one asks, and what bounds their answers.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;

/// Longest head of an answer, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// What this one calls itself.
pub const AGENT: &str = concat!("redoubt/", env!("CARGO_PKG_VERSION"));

/// Whom to trust cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The authorities cannot be used.
    #[error("expected certificates of authorities in PEM")]
    Authorities,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// TLS to whom the authorities in a file certify, or those that browsers know.
pub fn connector(ca: Option<&Path>) -> Result<TlsConnector, TrustError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|_| TrustError::Authorities)? {
                let certificate = certificate.map_err(|_| TrustError::Authorities)?;
                roots.add(certificate).map_err(|_| TrustError::Authorities)?;
            }
        }
    }
    if roots.is_empty() {
        return Err(TrustError::Authorities);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
