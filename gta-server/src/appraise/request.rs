//! `POST /attest` as it is sent.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use service_kit::extract::parse;
use service_kit::problem::Problem;
use utoipa::ToSchema;
use verifier::Refusal;

use super::malformed;
use super::tpm::TpmEvidence;
use crate::model::AttesterType;
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
            _ => Err(D::Error::custom("token_fmt is eat or ear")),
        }
    }
}

/// Evidence of one type.
#[derive(Debug, ToSchema)]
pub struct EvidenceItem<'a> {
    /// The type.
    pub attester_type: String,
    /// The evidence: an object of the type's own.
    #[schema(value_type = Object)]
    pub evidence: Evidence<'a>,
    /// Policies that must accept it beside those that apply anyway.
    #[schema(required = false)]
    pub policy_ids: Vec<String>,
}

/// Evidence as far as it was read.
#[derive(Debug)]
pub enum Evidence<'a> {
    /// Of a TPM: the list of a machine's files has millions of characters, which are looked at once if the type comes first.
    Tpm(TpmEvidence),
    /// Of another type, or of one that was told later.
    Unread(&'a RawValue),
}

impl Evidence<'_> {
    /// The evidence as that of the type `kind`, which is one of a TPM's.
    ///
    /// # Errors
    /// 422 if it does not have the members; 400 if the log is another one than this type has.
    pub fn tpm(self, kind: AttesterType) -> Result<TpmEvidence, Problem> {
        match self {
            Self::Tpm(evidence) => evidence.of(kind),
            Self::Unread(json) => parse::<TpmEvidence>(json.get().as_bytes())?.of(kind),
        }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    AttesterType,
    Evidence,
    PolicyIds,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for EvidenceItem<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = EvidenceItem<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with attester_type and evidence")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<EvidenceItem<'de>, A::Error> {
        let (mut attester_type, mut evidence, mut policy_ids): (Option<String>, _, _) = (None, None, None);
        while let Some(member) = members.next_key()? {
            match member {
                Member::AttesterType => once("attester_type", &mut attester_type, members.next_value()?)?,
                Member::Evidence => {
                    let kind = attester_type.as_deref().and_then(AttesterType::parse);
                    let read = match kind.filter(|kind| kind.is_of_tpm()) {
                        Some(_) => Evidence::Tpm(members.next_value()?),
                        None => Evidence::Unread(members.next_value()?),
                    };
                    once("evidence", &mut evidence, read)?;
                }
                Member::PolicyIds => once("policy_ids", &mut policy_ids, members.next_value()?)?,
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(EvidenceItem {
            attester_type: attester_type.ok_or_else(|| A::Error::missing_field("attester_type"))?,
            evidence: evidence.ok_or_else(|| A::Error::missing_field("evidence"))?,
            policy_ids: policy_ids.unwrap_or_default(),
        })
    }
}

/// Whoever says something twice could be understood in two ways.
fn once<T, E: Error>(name: &'static str, slot: &mut Option<T>, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
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
