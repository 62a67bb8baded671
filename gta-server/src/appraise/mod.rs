//! From evidence of one attester to what policies say of it.

mod policies;
mod request;
pub mod signed;
pub mod tpm;
pub mod virtcca;

use serde_json::Value;
use verifier::rego::Document;
use verifier::{Code, Refusal, Step, Subject};

pub use policies::{
    Applied, BUILT_IN, NoVerdict, applicable, built_in, evaluate, log_rules, looks_at_entries,
    without_requested,
};
pub use request::{AttestRequest, Evidence, EvidenceItem, Measurement, TokenFormat, qualifying_data};

/// Evidence that is authentic, whether or not it is of anything good.
pub struct Judged {
    /// What policies see.
    pub document: Value,
    /// What they see beside it as `evidence.logs[0].log_data`.
    pub log_data: Option<Document>,
    /// Why no policy could accept it, if that is so.
    pub refused: Option<Refusal>,
    /// What is not accepted of it, where that can be pointed at.
    pub subjects: Vec<Subject>,
    /// What an EAR says of it.
    pub trust: Trust,
}

/// AR4SI trustworthiness: 2 and 3 affirm what is run and what was booted, 32 warns, 96 says that it is not to be trusted,
/// 0 that nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The platform, where the evidence tells of it.
    pub hardware: Option<u8>,
    /// What was booted or is run.
    pub executables: u8,
}

impl Trust {
    /// Affirmed.
    pub const RUNNING: u8 = 2;
    /// Affirmed, as of the boot.
    pub const BOOTED: u8 = 3;
    /// There is something to know about it.
    pub const WARNING: u8 = 32;
    /// Contraindicated.
    pub const BAD: u8 = 96;
    /// Nothing is known.
    pub const NONE: u8 = 0;
}

fn malformed(detail: &str) -> Refusal {
    Refusal::new(Step::Decode, Code::EvidenceMalformed, detail)
}
