//! Evidence as the Global Trust Authority takes it (`POST /attest`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use evidence::envelope::VirtccaEvidence;
use evidence::tpm::PcrValues;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};
use tpm::Quoted;

use crate::{Error, Result};

/// What an attester's evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum AttesterType {
    /// The boot, by the firmware's log
    TpmBoot,
    /// Files that were used, by IMA's log
    TpmIma,
    /// A confidential VM of virtCCA, by its monitor's token
    VirtCca,
}

impl AttesterType {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpmBoot => "tpm_boot",
            Self::TpmIma => "tpm_ima",
            Self::VirtCca => "virt_cca",
        }
    }
}

/// The form of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TokenFormat {
    /// An Entity Attestation Token
    #[default]
    Eat,
    /// An EAT Attestation Result
    Ear,
}

/// Who made the nonce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NonceType {
    /// The authority
    #[default]
    Verifier,
    /// The relying party
    User,
}

/// What `POST /attest` takes.
#[derive(Debug, Serialize)]
pub struct AttestRequest {
    /// The version of this program.
    pub agent_version: &'static str,
    /// One for each node.
    pub measurements: [Measurement; 1],
}

impl AttestRequest {
    /// A request about one node.
    #[must_use]
    pub const fn new(measurement: Measurement) -> Self {
        Self { agent_version: env!("CARGO_PKG_VERSION"), measurements: [measurement] }
    }
}

/// Evidence of one node.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Its name.
    pub node_id: String,
    /// Who made the nonce.
    pub nonce_type: NonceType,
    /// The nonce in base64.
    pub nonce: String,
    /// The form of the token that is wanted.
    pub token_fmt: TokenFormat,
    /// What else the quotes are bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attester_data: Option<Value>,
    /// How long after this measurement the next one comes at the latest, in seconds, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_interval: Option<u32>,
    /// One for each type.
    pub evidences: Vec<EvidenceItem>,
}

/// Evidence of one type.
#[derive(Debug, Serialize)]
pub struct EvidenceItem {
    attester_type: AttesterType,
    evidence: Box<RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policy_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TpmEvidence {
    quote: Quote,
    pcrs: Pcrs,
    logs: [Log; 1],
}

#[derive(Debug, Serialize)]
struct Quote {
    quote_data: String,
    signature: String,
}

#[derive(Debug, Serialize)]
struct Pcrs {
    hash_alg: &'static str,
    pcr_values: Vec<Pcr>,
}

#[derive(Debug, Serialize)]
struct Pcr {
    pcr_index: u32,
    pcr_value: String,
}

#[derive(Debug, Serialize)]
struct Log {
    log_type: &'static str,
    log_data: String,
    #[serde(skip_serializing_if = "is_zero")]
    first_entry: u64,
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl EvidenceItem {
    /// The boot.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn boot(quoted: &Quoted, log: &[u8], policy_ids: &[String]) -> Result<Self> {
        Self::tpm(AttesterType::TpmBoot, quoted, Log::new("TcgEventLog", log, 0), policy_ids)
    }

    /// Files, from the entry number `first` of IMA's log on.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn ima(quoted: &Quoted, log: &[u8], first: u64, policy_ids: &[String]) -> Result<Self> {
        Self::tpm(AttesterType::TpmIma, quoted, Log::new("ImaLog", log, first), policy_ids)
    }

    /// A confidential VM.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn virtcca(evidence: &VirtccaEvidence, policy_ids: &[String]) -> Result<Self> {
        let evidence = RawValue::from_string(evidence.to_gta_json()).map_err(|error| unwritable(&error))?;
        Ok(Self { attester_type: AttesterType::VirtCca, evidence, policy_ids: policy_ids.to_vec() })
    }

    fn tpm(attester_type: AttesterType, quoted: &Quoted, log: Log, policy_ids: &[String]) -> Result<Self> {
        let quote = Quote {
            quote_data: STANDARD.encode(&quoted.attest),
            signature: STANDARD.encode(&quoted.signature),
        };
        let evidence = TpmEvidence { quote, pcrs: Pcrs::new(&quoted.values), logs: [log] };
        let evidence = to_raw_value(&evidence).map_err(|error| unwritable(&error))?;
        Ok(Self { attester_type, evidence, policy_ids: policy_ids.to_vec() })
    }
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::Request(error.to_string())
}

impl Log {
    fn new(log_type: &'static str, log: &[u8], first_entry: u64) -> Self {
        Self { log_type, log_data: STANDARD.encode(log), first_entry }
    }
}

impl Pcrs {
    fn new(values: &PcrValues) -> Self {
        let value = |(pcr_index, value): (u32, &evidence::bank::BankValue)| Pcr {
            pcr_index,
            pcr_value: value.to_string(),
        };
        // The authority calls SM3 by its short name.
        let hash_alg = match values.bank() {
            evidence::bank::Bank::Sm3 => "sm3",
            bank => bank.name(),
        };
        Self { hash_alg, pcr_values: values.iter().map(value).collect() }
    }
}

/// What a quote must contain: SHA-256 of the nonce's bytes, and of `attester_data` as compact JSON in base64.
#[must_use]
pub fn qualifying_data(nonce: &[u8], attester_data: Option<&Value>) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(nonce);
    if let Some(data) = attester_data {
        hash.update(STANDARD.encode(data.to_string()));
    }
    hash.finalize().into()
}
