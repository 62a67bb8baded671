//! What an appraisal says to others: secGear's claims, and an attestation result of the IETF (EAR). There is no result for
//! evidence that was refused; that is a [`crate::Refusal`].

mod ear;
mod secgear;

pub use ear::{EAR_PROFILE, Ear, Submodule, Tier, TrustVector, VerifierId};
pub use secgear::{EvaluationReports, Spelling};
