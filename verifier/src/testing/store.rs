//! What an operator would register.

use std::sync::Arc;

use evidence::hash::Digest;

use crate::chain::TrustBundle;
use crate::{
    AppraisalPolicy, AwsLc, CertificateTrust, Context, PlatformReference, Provenance, RealmReference,
    ReferenceValues, StoreError, TrustAnchor, TrustAnchors,
};

/// The name of the one trust anchor.
pub const ANCHOR: &str = "demo-platform";

/// A moment at which everything that is made here is valid: 15 January 2027.
pub const NOW: i64 = 1_800_000_000;

/// At most one trust anchor, some references, some certificate authorities.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Implementation id, instance id and key of the platform.
    pub platform: Option<([u8; 32], [u8; 33], TrustAnchor)>,
    /// Expected measurements.
    pub references: Vec<RealmReference>,
    /// Expected software of CCA platforms.
    pub platforms: Vec<PlatformReference>,
    /// Certificate authorities.
    pub bundle: Arc<TrustBundle>,
}

impl Registered {
    /// A store that knows one initial measurement, as `guest`, and no platform.
    pub fn with_reference(rim: Digest) -> Self {
        let reference = RealmReference {
            name: "guest".to_owned(),
            rim,
            rpv: None,
            rems: [None; 4],
            logs: None,
            provenance: Self::provenance(),
        };
        Self {
            platform: None,
            references: vec![reference],
            platforms: Vec::new(),
            bundle: Arc::new(TrustBundle::empty()),
        }
    }

    /// The trust anchor.
    ///
    /// # Panics
    /// If there is none.
    pub fn anchor(&mut self) -> &mut TrustAnchor {
        &mut self.platform.as_mut().unwrap().2
    }

    /// What an appraisal of now is held against.
    pub fn context<'a>(&'a self, policies: &'a [AppraisalPolicy]) -> Context<'a> {
        Context {
            now: NOW,
            signatures: &AwsLc,
            anchors: self,
            certificates: &self.bundle,
            references: self,
            policies,
        }
    }

    pub(super) fn provenance() -> Provenance {
        Provenance { source: "test".to_owned(), added_at: 1_700_000_000 }
    }
}

impl TrustAnchors for Registered {
    fn platform_key(
        &self,
        implementation_id: &[u8; 32],
        instance_id: &[u8; 33],
    ) -> Result<Option<TrustAnchor>, StoreError> {
        let found = self.platform.iter().find(|(implementation, instance, _)| {
            implementation == implementation_id && instance == instance_id
        });
        Ok(found.map(|(_, _, anchor)| anchor.clone()))
    }
}

impl ReferenceValues for Registered {
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, StoreError> {
        let known = || self.references.iter().filter(|reference| reference.rim == *rim);
        let mut found = Vec::with_capacity(known().count());
        found.extend(known().cloned());
        Ok(found)
    }

    fn platforms(&self, _: &[u8; 32]) -> Result<Vec<PlatformReference>, StoreError> {
        Ok(self.platforms.clone())
    }
}

/// A store that cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct Broken;

impl TrustAnchors for Broken {
    fn platform_key(&self, _: &[u8; 32], _: &[u8; 33]) -> Result<Option<TrustAnchor>, StoreError> {
        Err(StoreError)
    }
}

impl ReferenceValues for Broken {
    fn realm(&self, _: &Digest) -> Result<Vec<RealmReference>, StoreError> {
        Err(StoreError)
    }
}

impl CertificateTrust for Broken {
    fn bundle(&self) -> Result<Arc<TrustBundle>, StoreError> {
        Err(StoreError)
    }
}
