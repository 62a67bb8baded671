//! Evidence of a TPM as it is sent.

use std::sync::LazyLock;
use std::{fmt, io, thread};

use base64::engine::general_purpose::PAD;
use base64::engine::simd::Simd;
use base64::{Engine as _, decoded_len_estimate};
use evidence::bank::Bank;
use evidence::tpm::PcrValues;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use service_kit::problem::Problem;
use verifier::Refusal;

use crate::appraise::malformed;
use crate::model::AttesterType;

/// Characters of base64; less is decoded sooner than a thread is made.
const WORTH_A_THREAD: usize = 1 << 20;

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
    quote_data: Base64,
    signature: Base64,
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
    log_data: Base64,
    /// The position of the first entry that is sent of an IMA log.
    #[serde(default)]
    first_entry: u64,
}

/// Evidence, decoded.
pub struct Parts<'a> {
    /// `TPMS_ATTEST`.
    pub attest: &'a [u8],
    /// `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// The values of registers beside it.
    pub pcrs: PcrValues,
    /// The log, if one was sent.
    pub log: Option<Log<'a>>,
}

/// A log, decoded.
pub struct Log<'a> {
    /// The position of its first entry.
    pub first: u64,
    /// Its bytes.
    pub data: &'a [u8],
}

/// What the log of this type of evidence is called.
pub const fn log_type(kind: AttesterType) -> &'static str {
    match kind {
        AttesterType::TpmIma => "ImaLog",
        _ => "TcgEventLog",
    }
}

impl TpmEvidence {
    /// Takes it as evidence of the type `kind`.
    ///
    /// # Errors
    /// 400 if the log is another one than this type has.
    pub fn of(self, kind: AttesterType) -> Result<Self, Problem> {
        let expected = log_type(kind);
        if self.logs.iter().any(|log| log.log_type != expected) {
            return Err(Problem::bad_request("log_type_wrong", format!("the log of {kind} is a {expected}")));
        }
        Ok(self)
    }

    /// What was decoded.
    ///
    /// # Errors
    /// [`Refusal`] if it could not be.
    pub fn parts(&self) -> Result<Parts<'_>, Refusal> {
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
            [log] => Some(Log { first: log.first_entry, data: log.log_data.bytes("log_data")? }),
            _ => return Err(malformed("logs has one log")),
        };
        Ok(Parts {
            attest: self.quote.quote_data.bytes("quote_data")?,
            signature: self.quote.signature.bytes("signature")?,
            pcrs: pcrs.map_err(|error| malformed(&error.to_string()))?,
            log,
        })
    }
}

/// Text in standard base64, decoded where it lies in the JSON: a list of files has millions of characters.
#[derive(Debug)]
struct Base64(Option<Vec<u8>>);

impl Base64 {
    fn bytes(&self, field: &str) -> Result<&[u8], Refusal> {
        self.0.as_deref().ok_or_else(|| malformed(&format!("{field} is not standard base64")))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As bytes: that they are UTF-8 is not asked, for base64 is.
        deserializer.deserialize_bytes(Base64Visitor)
    }
}

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = Base64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in standard base64")
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<Base64, E> {
        Ok(Base64(decode(text)))
    }
}

/// Decodes standard base64: long text in two threads, for its memory takes more time than its characters.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    static STANDARD: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));
    if text.len() < WORTH_A_THREAD {
        return STANDARD.decode(text).ok();
    }
    let (first, second) = text.split_at(text.len() / 8 * 4);
    let middle = first.len() / 4 * 3;
    let mut bytes = vec![0; middle + decoded_len_estimate(second.len())];
    let (to_first, to_second) = bytes.split_at_mut(middle);
    let decoded = thread::scope(|scope| {
        let work = || STANDARD.decode_slice(first, to_first);
        let thread = thread::Builder::new().name("base64".to_owned()).spawn_scoped(scope, work)?;
        let second = STANDARD.decode_slice(second, to_second).ok();
        // Padding is allowed at the end of the text only, so nothing is missing in the middle.
        let first = thread.join().ok().and_then(Result::ok).filter(|length| *length == middle);
        Ok::<_, io::Error>(first.and(second))
    });
    match decoded {
        Ok(second) => {
            bytes.truncate(middle + second?);
            Some(bytes)
        }
        // There is no thread to be had.
        Err(_) => STANDARD.decode(text).ok(),
    }
}

/// The Global Trust Authority calls SM3 by its short name.
fn bank(name: &str) -> Option<Bank> {
    if name == "sm3" { Some(Bank::Sm3) } else { Bank::ALL.into_iter().find(|bank| bank.name() == name) }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn long_text_is_decoded_and_refused_as_short_text_is() {
        for length in [0, 1, 2, 3, 4, WORTH_A_THREAD, WORTH_A_THREAD + 1, WORTH_A_THREAD + 5] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let text = STANDARD.encode(&bytes);
            assert_eq!(decode(text.as_bytes()), Some(bytes), "{length}");
        }
        let good = STANDARD.encode(vec![1; WORTH_A_THREAD]).into_bytes();
        let middle = good.len() / 8 * 4;
        for (at, bad) in [
            (0, &b"*"[..]),
            (middle - 1, b"="),
            (middle - 2, b"=="),
            (middle, b"="),
            (middle, b"\n"),
            (good.len() - 3, b"==="),
            (good.len() / 3, b"="),
        ] {
            let mut text = good.clone();
            text[at..at + bad.len()].copy_from_slice(bad);
            assert_eq!(decode(&text), None, "{at} {bad:?}");
        }
        assert_eq!(decode(&good[..good.len() - 1]), None);
        assert_eq!(decode(&[&good[..], b"A"].concat()), None);
    }
}
