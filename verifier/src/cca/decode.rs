//! Step `decode`: the bytes are a CCA token.

use evidence::cca::CcaToken;

use crate::refusal::{Code, Refusal, Step, sentence};

/// Reads both halves of the token.
pub fn decode(token: &[u8]) -> Result<CcaToken, Refusal> {
    CcaToken::decode(token).map_err(|error| {
        Refusal::new(Step::Decode, Code::EvidenceMalformed, format!("not a CCA token: {}", sentence(&error)))
    })
}
