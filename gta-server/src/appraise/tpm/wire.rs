//! Evidence of a TPM as it is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::tpm::PcrValues;
use serde::Deserialize;
use serde_json::value::RawValue;
use service_kit::problem::Problem;
use verifier::{Code, Refusal};

use crate::appraise::malformed;
use crate::model::AttesterType;

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

/// What the log of this type of evidence is called.
pub const fn log_type(kind: AttesterType) -> &'static str {
    match kind {
        AttesterType::TpmIma => "ImaLog",
        _ => "TcgEventLog",
    }
}

impl TpmEvidence {
    /// Reads evidence of the type `kind`.
    ///
    /// # Errors
    /// 400 if it does not have the members, or the log is another one than this type has.
    pub fn read(kind: AttesterType, json: &RawValue) -> Result<Self, Problem> {
        let evidence: Self = serde_json::from_str(json.get()).map_err(|error| {
            Problem::bad_request(Code::EvidenceMalformed.as_str(), format!("evidence of {kind}: {error}"))
        })?;
        let expected = log_type(kind);
        if evidence.logs.iter().any(|log| log.log_type != expected) {
            return Err(Problem::bad_request("log_type_wrong", format!("the log of {kind} is a {expected}")));
        }
        Ok(evidence)
    }

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
            [log] => Some(Log { first: log.first_entry, data: base64("log_data", &log.log_data)? }),
            _ => return Err(malformed("logs has one log")),
        };
        Ok(Parts {
            attest: base64("quote_data", &self.quote.quote_data)?,
            signature: base64("signature", &self.quote.signature)?,
            pcrs: pcrs.map_err(|error| malformed(&error.to_string()))?,
            log,
        })
    }
}

/// The Global Trust Authority calls SM3 by its short name.
fn bank(name: &str) -> Option<Bank> {
    if name == "sm3" { Some(Bank::Sm3) } else { Bank::ALL.into_iter().find(|bank| bank.name() == name) }
}
