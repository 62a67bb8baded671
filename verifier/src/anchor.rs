//! Trust anchors: the platform keys that an operator has chosen to believe.

use serde::Serialize;

use crate::key::PublicKey;
use crate::refusal::StoreError;

/// Where a registered value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Free text of the operator: a file, a vendor's page, a build.
    pub source: String,
    /// When it was registered, seconds since the Unix epoch.
    pub added_at: i64,
}

/// A platform's attestation key (CPAK in Arm CCA).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    /// The operator's name for it; exceptions in policies refer to it.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// Whether it is a development key, which no policy accepts unless it names this anchor.
    pub development: bool,
    /// Where it came from.
    pub provenance: Provenance,
}

/// Finds the key of a platform.
pub trait TrustAnchors {
    /// The anchor registered for exactly this pair of identifiers.
    ///
    /// # Errors
    /// [`StoreError`] if the anchors cannot be read; absence is `Ok(None)`.
    fn platform_key(
        &self,
        implementation_id: &[u8; 32],
        instance_id: &[u8; 33],
    ) -> Result<Option<TrustAnchor>, StoreError>;
}
