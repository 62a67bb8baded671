//! Attestation evidence formats and Realm measurement arithmetic: decodes and encodes, and does nothing else.
//!
//! No I/O, no clock, no network, no keys. Everything that is decoded here comes from strangers: sizes and nesting are
//! bounded, and every fault is a typed error. Whether evidence is to be *believed* is for the `verifier` crate.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod bank;
pub mod cbor;
pub mod cca;
pub mod envelope;
pub mod hash;
pub mod ima;
mod reader;
pub mod rmm;
pub mod tcg;
pub mod tmm;
pub mod token;
pub mod tpm;
pub mod virtcca;

/// Foreign text for an error message: escaped, and short whatever the sender wrote.
fn quote(text: &str) -> String {
    const LONGEST: usize = 64;
    let short: String = text.chars().take(LONGEST).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{dots}")
}
