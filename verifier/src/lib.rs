//! Appraisal of attestation evidence: a pipeline of named steps from bytes to an [`Appraisal`] or a typed [`Refusal`].
//!
//! No HTTP, no SQL, no clock: trust anchors, certificate authorities and reference values come through traits, policies as
//! compiled values, and the time as a number.
//! Every step fails closed. A TEE is a module with its own steps; it shares signatures, policies and refusals.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod anchor;
mod appraisal;
mod cca;
pub mod chain;
pub mod corim;
pub mod denied;
mod guest;
mod input;
mod key;
pub mod logs;
mod policy;
mod reference;
mod refusal;
pub mod rego;
pub mod result;
mod signature;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tpm;
mod verdict;
mod virtcca;

pub use anchor::{Provenance, TrustAnchor, TrustAnchors};
pub use appraisal::{Appraisal, PlatformTrust};
pub use chain::CertificateTrust;
pub use key::{KeyError, PublicKey};
pub use policy::{
    AppraisalPolicy, ComponentRule, ComponentRules, Exception, HexBytes, Rules, Version, VersionError,
    VirtccaRules,
};
pub use reference::{PlatformReference, RealmReference, ReferenceValues};
pub use refusal::{Code, Refusal, Step, StoreError, Subject};
pub use rego::{CompileError, Rego};
pub use signature::{AwsLc, BadSignature, SignatureVerifier};
pub use verdict::PolicyOutput;

use evidence::envelope::Evidence;

/// The policy that applies when the operator has registered none: secured platforms with production keys only.
pub const DEFAULT_CCA_POLICY: &str = include_str!("../../policies/default_cca.rego");

/// The same for virtCCA: platforms with a Platform Token only.
pub const DEFAULT_VIRTCCA_POLICY: &str = include_str!("../../policies/default_virtcca.rego");

/// A resource policy that is satisfied by every accepted appraisal; operators bind it where that is what they mean.
pub const AFFIRMING_RESOURCE_POLICY: &str = include_str!("../../policies/resource/affirming.rego");

/// What an appraisal is held against.
pub struct Context<'a> {
    /// The time, seconds since the Unix epoch.
    pub now: i64,
    /// Verifies signatures.
    pub signatures: &'a dyn SignatureVerifier,
    /// The platform keys that are believed.
    pub anchors: &'a dyn TrustAnchors,
    /// The certificate authorities that are believed.
    pub certificates: &'a dyn CertificateTrust,
    /// The measurements that are expected.
    pub references: &'a dyn ReferenceValues,
    /// The policies; all must allow, and none at all is a refusal.
    pub policies: &'a [AppraisalPolicy],
}

/// Appraises `evidence` that must answer `challenge` (the issued bytes, zero-padded to 64).
///
/// # Errors
/// [`Refusal`] names the first step that failed and its machine code.
pub fn appraise(
    evidence: &Evidence,
    challenge: &[u8; 64],
    context: &Context<'_>,
) -> Result<Appraisal, Refusal> {
    match evidence {
        Evidence::Cca(evidence) => cca::appraise(evidence, challenge, context),
        Evidence::Virtcca(evidence) => virtcca::appraise(evidence, challenge, context),
    }
}
