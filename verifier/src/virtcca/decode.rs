//! Step `decode`: the bytes are a virtCCA token.

use evidence::virtcca::VirtccaToken;

use crate::refusal::{Code, Refusal, Step, sentence};

/// Reads the CVM token and the Platform Token, if there is one.
pub fn decode(token: &[u8]) -> Result<VirtccaToken, Refusal> {
    VirtccaToken::decode(token).map_err(|error| {
        let detail = format!("not a virtCCA token: {}", sentence(&error));
        Refusal::new(Step::Decode, Code::EvidenceMalformed, detail)
    })
}
