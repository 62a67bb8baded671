//! This machine's TPM, attested by a Global Trust Authority (`gta-server`).
//!
//! - [`options`]: the section `gta` of the configuration file, which is the command line as well
//! - [`machine`]: evidence of the TPM and the logs that explain its registers
//! - [`authority`]: the REST interface of the authority
//! - [`attest`]: enrolment and attestation; [`state`]: what is remembered between them
//! - [`schedule`]: attestation again and again; [`respond`]: when a program asks for it

pub mod attest;
pub mod authority;
pub mod machine;
pub mod measurement;
pub mod options;
pub mod respond;
pub mod schedule;
pub mod state;
pub mod verdict;

pub use attest::{Attester, Outcome};
pub use options::Options;
