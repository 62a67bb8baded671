//! Step `decode`: the bytes are a CCA token.

use evidence::cca::CcaToken;

use crate::refusal::{Code, Refusal, Step};

/// Reads both halves of the token.
pub fn decode(token: &[u8]) -> Result<CcaToken, Refusal> {
    CcaToken::decode(token).map_err(|error| {
        Refusal::new(Step::Decode, Code::EvidenceMalformed, format!("not a CCA token: {}", chain(&error)))
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
