//! The authorities that certify devices, in the form that the verifier takes. Reading them costs, and the verifier keeps
//! the chains that it has validated with them: they are read again only when an operator has changed them, through
//! whichever instance.

use std::sync::{Arc, Mutex, PoisonError};

use verifier::chain::TrustBundle;

use crate::store::{Store, StoreError};

/// The authorities as they were read last.
#[derive(Default)]
pub struct Authorities {
    read: Mutex<Option<(i64, Arc<TrustBundle>)>>,
}

impl Authorities {
    /// The authorities of now.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read: then no certificate is believed.
    pub async fn current(&self, store: &Store) -> Result<Arc<TrustBundle>, StoreError> {
        let revision = store.authorities_revision().await?;
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, bundle)) = known.filter(|(read, _)| *read == revision) {
            return Ok(bundle);
        }
        let (bundles, crls) = (store.bundles().await?, store.crls().await?);
        let certificates = bundles.iter().map(|bundle| (bundle.name.as_str(), bundle.pem.as_bytes()));
        let lists = crls.iter().map(|crl| (crl.name.as_str(), crl.der.as_slice()));
        let bundle = TrustBundle::new(certificates.chain(lists), []).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "authorities");
            StoreError::Corrupt("trust bundle")
        })?;
        let bundle = Arc::new(bundle);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, Arc::clone(&bundle)));
        Ok(bundle)
    }
}
