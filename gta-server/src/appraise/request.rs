//! `POST /attest` as it is sent.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use verifier::Refusal;

use super::malformed;
use crate::nonce::NonceType;

/// `POST /attest`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AttestRequest<'a> {
    /// One for each node.
    #[serde(borrow)]
    pub measurements: Vec<Measurement<'a>>,
}

/// Evidence of one node.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Measurement<'a> {
    /// The node's name.
    pub node_id: String,
    /// Who made the nonce.
    #[serde(default)]
    pub nonce_type: NonceType,
    /// The nonce, in base64.
    pub nonce: Option<String>,
    /// The form of the result.
    #[serde(default)]
    pub token_fmt: TokenFormat,
    /// What else the quotes are bound to. Kept as it was sent: its members have an order.
    #[schema(value_type = Option<Object>)]
    #[serde(borrow)]
    pub attester_data: Option<&'a RawValue>,
    /// How long after this report the next one comes at the latest, in seconds.
    pub report_interval: Option<u32>,
    /// One for each type.
    #[serde(borrow)]
    pub evidences: Vec<EvidenceItem<'a>>,
}

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum TokenFormat {
    /// An EAT.
    #[default]
    Eat,
    /// An EAT Attestation Result.
    Ear,
}

impl<'de> Deserialize<'de> for TokenFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_lowercase().as_str() {
            "eat" => Ok(Self::Eat),
            "ear" => Ok(Self::Ear),
            _ => Err(serde::de::Error::custom("token_fmt is eat or ear")),
        }
    }
}

/// Evidence of one type.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EvidenceItem<'a> {
    /// The type.
    pub attester_type: String,
    /// The evidence: an object of the type's own, read when the type is known.
    #[schema(value_type = Object)]
    #[serde(borrow)]
    pub evidence: &'a RawValue,
    /// Policies that must accept it beside those that apply anyway.
    #[serde(default)]
    pub policy_ids: Vec<String>,
}

/// What evidence is bound to, and so what a quote is asked to contain: SHA-256 of the nonce's bytes, and of `attester_data` as compact JSON with its members in
/// the order in which they were sent, in base64.
///
/// # Errors
/// [`Refusal`] if `attester_data` cannot be written down again.
pub fn qualifying_data(nonce: &[u8], attester_data: Option<&RawValue>) -> Result<Vec<u8>, Refusal> {
    let mut hash = Context::new(&SHA256);
    hash.update(nonce);
    if let Some(data) = attester_data {
        let mut compact = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(data.get());
        let mut writer = serde_json::Serializer::new(&mut compact);
        serde_transcode::transcode(&mut reader, &mut writer)
            .map_err(|_| malformed("attester_data cannot be written as JSON"))?;
        hash.update(STANDARD.encode(compact).as_bytes());
    }
    Ok(hash.finish().as_ref().to_vec())
}
