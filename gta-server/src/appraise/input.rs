//! Evidence as it is sent.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::tpm::PcrValues;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use verifier::{Code, Refusal, Step};

use crate::nonce::NonceType;

/// `POST /attest`.
#[derive(Debug, Deserialize)]
pub struct AttestRequest {
    /// One for each node.
    pub measurements: Vec<Measurement>,
}

/// Evidence of one node.
#[derive(Debug, Deserialize)]
pub struct Measurement {
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
    pub attester_data: Option<Box<RawValue>>,
    /// One for each type.
    pub evidences: Vec<EvidenceItem>,
}

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Debug, Deserialize)]
pub struct EvidenceItem {
    /// The type.
    pub attester_type: String,
    /// The evidence.
    pub evidence: TpmEvidence,
    /// Policies that must accept it beside those that apply anyway.
    #[serde(default)]
    pub policy_ids: Vec<String>,
}

/// Evidence of a TPM.
#[derive(Debug, Deserialize)]
pub struct TpmEvidence {
    /// Certificates of the attestation key. An enrolled node needs none.
    #[serde(default)]
    pub ak_certs: Vec<AkCertificate>,
    quote: QuoteText,
    pcrs: PcrsText,
    #[serde(default)]
    logs: Vec<LogText>,
}

/// A certificate of an attestation key.
#[derive(Debug, Deserialize)]
pub struct AkCertificate {
    /// `aik`; `iak` and `lak` are keys of another kind.
    pub cert_type: String,
    /// In PEM, or DER in base64.
    pub cert_data: String,
}

#[derive(Debug, Deserialize)]
struct QuoteText {
    quote_data: String,
    signature: String,
}

#[derive(Debug, Deserialize)]
struct PcrsText {
    hash_alg: String,
    pcr_values: Vec<PcrText>,
}

#[derive(Debug, Deserialize)]
struct PcrText {
    pcr_index: u32,
    pcr_value: String,
}

#[derive(Debug, Deserialize)]
struct LogText {
    log_type: String,
    log_data: String,
    /// The position of the first entry that is sent of an IMA log.
    #[serde(default)]
    first_entry: u64,
}

/// Evidence, decoded.
pub struct Parts {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// The values of registers beside it.
    pub pcrs: PcrValues,
    /// The log, if one was sent.
    pub log: Option<Log>,
}

/// A log, decoded.
pub struct Log {
    /// The position of its first entry.
    pub first: u64,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl TpmEvidence {
    /// Decodes what is in text.
    pub fn parts(&self) -> Result<Parts, Refusal> {
        let base64 = |field: &str, text: &str| {
            STANDARD.decode(text).map_err(|_| malformed(&format!("{field} is not standard base64")))
        };
        let bank = bank(&self.pcrs.hash_alg)
            .ok_or_else(|| malformed("pcrs.hash_alg must be sha256, sha384, sha512 or sm3"))?;
        let mut values = Vec::new();
        for pcr in &self.pcrs.pcr_values {
            let value = hex::decode(&pcr.pcr_value)
                .map_err(|_| malformed(&format!("the value of PCR {} is not hexadecimal", pcr.pcr_index)))?;
            values.push((pcr.pcr_index, value));
        }
        let pcrs = PcrValues::new(bank, values.iter().map(|(index, value)| (*index, value.as_slice())));
        let log = match &self.logs[..] {
            [] => None,
            [log] if ["TcgEventLog", "ImaLog"].contains(&log.log_type.as_str()) => {
                Some(Log { first: log.first_entry, data: base64("log_data", &log.log_data)? })
            }
            _ => return Err(malformed("logs has one TcgEventLog, or one ImaLog")),
        };
        Ok(Parts {
            attest: base64("quote_data", &self.quote.quote_data)?,
            signature: base64("signature", &self.quote.signature)?,
            pcrs: pcrs.map_err(|error| malformed(&error.to_string()))?,
            log,
        })
    }

    /// The type of the log, if one was sent.
    pub fn log_type(&self) -> Option<&str> {
        self.logs.first().map(|log| log.log_type.as_str())
    }
}

/// The Global Trust Authority calls SM3 by its short name.
fn bank(name: &str) -> Option<Bank> {
    if name == "sm3" { Some(Bank::Sm3) } else { Bank::ALL.into_iter().find(|bank| bank.name() == name) }
}

/// What a quote is asked to contain: SHA-256 of the nonce's bytes, and of `attester_data` as compact JSON with its members in
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

fn malformed(detail: &str) -> Refusal {
    Refusal::new(Step::Decode, Code::EvidenceMalformed, detail)
}
