//! The objects inside envelopes, one per kind of environment and dialect.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bytes::{BASE64URL, StandardBytes, UrlBytes};
use super::{
    BootLog, CcaEvidence, EnvelopeError, Evidence, Logs, MAX_BOOT_LOG_SIZE, MAX_BOOT_TABLE_SIZE,
    MAX_CERTIFICATE_SIZE, MAX_IMA_LOG_SIZE, Tee, VirtccaEvidence,
};
use crate::token::MAX_TOKEN_SIZE;

/// How an envelope is written. All are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// This crate's own: secGear's names of 2026, byte strings as base64url text.
    Compact,
    /// secGear as of openEuler 25.09: the boot log is `event_log`, without its table; byte strings are arrays.
    SecGear2509,
    /// secGear as of 2026: the boot log is `uefi_log` with its table; byte strings are arrays.
    SecGear,
}

impl Dialect {
    /// How this dialect spells a kind of environment.
    pub(super) fn tee(self, tee: Tee) -> &'static str {
        match (self, tee) {
            (Self::SecGear2509, Tee::Cca) => "Rustcca",
            (Self::SecGear2509, Tee::Virtcca) => "Virtcca",
            (Self::Compact | Self::SecGear, tee) => tee.name(),
        }
    }

    fn bytes(self, bytes: &[u8]) -> Value {
        match self {
            Self::Compact => BASE64URL.encode(bytes).into(),
            Self::SecGear2509 | Self::SecGear => bytes.into(),
        }
    }

    fn boot_log(self, log: &BootLog) -> (&'static str, Value) {
        match self {
            Self::SecGear2509 => ("event_log", self.bytes(&log.data)),
            Self::Compact | Self::SecGear => (
                "uefi_log",
                json!({ "ccel_table": self.bytes(&log.table), "ccel_data": self.bytes(&log.data) }),
            ),
        }
    }
}

pub(super) fn fields(tee: Tee) -> &'static str {
    match tee {
        Tee::Cca => "the field \"token\", base64url text or an array of bytes",
        Tee::Virtcca => {
            "the fields \"evidence\" and \"dev_cert\" (or \"vcca_token\" and \"dev_cert\" in base64), \
             text or arrays of bytes"
        }
    }
}

pub(super) fn encode(evidence: &Evidence, dialect: Dialect) -> Value {
    let mut inner = match evidence {
        Evidence::Cca(evidence) => json!({ "token": dialect.bytes(&evidence.token) }),
        Evidence::Virtcca(evidence) => json!({
            "evidence": dialect.bytes(&evidence.token),
            "dev_cert": dialect.bytes(&evidence.device_certificate),
        }),
    };
    if let Value::Object(fields) = &mut inner {
        let logs = evidence.logs();
        if let Some(ima) = &logs.ima {
            fields.insert("ima_log".to_owned(), dialect.bytes(ima));
        }
        if let Some(boot) = &logs.boot {
            let (name, value) = dialect.boot_log(boot);
            fields.insert(name.to_owned(), value);
        }
    }
    inner
}

// `serde(flatten)` for the logs would keep arrays of bytes in memory as 32 bytes for each byte.
#[derive(Deserialize)]
struct Cca {
    token: UrlBytes<MAX_TOKEN_SIZE>,
    #[serde(default)]
    ima_log: Option<UrlBytes<MAX_IMA_LOG_SIZE>>,
    #[serde(default)]
    event_log: Option<UrlBytes<MAX_BOOT_LOG_SIZE>>,
    #[serde(default)]
    uefi_log: Option<UefiLog>,
}

#[derive(Deserialize)]
struct Virtcca {
    evidence: UrlBytes<MAX_TOKEN_SIZE>,
    dev_cert: UrlBytes<MAX_CERTIFICATE_SIZE>,
    #[serde(default)]
    ima_log: Option<UrlBytes<MAX_IMA_LOG_SIZE>>,
    #[serde(default)]
    event_log: Option<UrlBytes<MAX_BOOT_LOG_SIZE>>,
    #[serde(default)]
    uefi_log: Option<UefiLog>,
}

#[derive(Deserialize)]
struct UefiLog {
    ccel_table: UrlBytes<MAX_BOOT_TABLE_SIZE>,
    ccel_data: UrlBytes<MAX_BOOT_LOG_SIZE>,
}

pub(super) fn decode_cca(text: &str) -> Result<CcaEvidence, EnvelopeError> {
    let error = |source| EnvelopeError::Inner { tee: Tee::Cca, source };
    let inner: Cca = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(error)?
    } else {
        // secGear's own attester encodes the object once more.
        let json = BASE64URL.decode(text).map_err(|source| error(serde::de::Error::custom(source)))?;
        serde_json::from_slice(&json).map_err(error)?
    };
    Ok(CcaEvidence { token: inner.token.0, logs: logs(inner.ima_log, inner.event_log, inner.uefi_log)? })
}

pub(super) fn decode_virtcca(text: &str) -> Result<VirtccaEvidence, EnvelopeError> {
    let inner: Virtcca =
        serde_json::from_str(text).map_err(|source| EnvelopeError::Inner { tee: Tee::Virtcca, source })?;
    Ok(VirtccaEvidence {
        token: inner.evidence.0,
        device_certificate: inner.dev_cert.0,
        logs: logs(inner.ima_log, inner.event_log, inner.uefi_log)?,
    })
}

fn logs(
    ima: Option<UrlBytes<MAX_IMA_LOG_SIZE>>,
    event: Option<UrlBytes<MAX_BOOT_LOG_SIZE>>,
    uefi: Option<UefiLog>,
) -> Result<Logs, EnvelopeError> {
    let event = event.map(|data| BootLog { table: Vec::new(), data: data.0 });
    let uefi = uefi.map(|log| BootLog { table: log.ccel_table.0, data: log.ccel_data.0 });
    let mut logs = Logs::default();
    put(&mut logs.ima, ima.map(|bytes| bytes.0), Vec::is_empty, "IMA log")?;
    for boot in [event, uefi] {
        put(&mut logs.boot, boot, |log| log.data.is_empty(), "boot log")?;
    }
    Ok(logs)
}

fn put<T>(
    slot: &mut Option<T>,
    log: Option<T>,
    empty: impl Fn(&T) -> bool,
    name: &'static str,
) -> Result<(), EnvelopeError> {
    if let Some(log) = log.filter(|log| !empty(log))
        && slot.replace(log).is_some()
    {
        return Err(EnvelopeError::DuplicateLog { log: name });
    }
    Ok(())
}

/// The envelope of Global Trust Authority.
#[derive(Deserialize)]
pub(super) struct Gta {
    vcca_token: StandardBytes<MAX_TOKEN_SIZE>,
    dev_cert: StandardBytes<MAX_CERTIFICATE_SIZE>,
    #[serde(default)]
    logs: Option<Vec<GtaLog>>,
}

#[derive(Deserialize)]
struct GtaLog {
    log_type: String,
    log_data: StandardBytes<MAX_IMA_LOG_SIZE>,
}

impl TryFrom<Gta> for VirtccaEvidence {
    type Error = EnvelopeError;

    fn try_from(inner: Gta) -> Result<Self, EnvelopeError> {
        let mut logs = Logs::default();
        for log in inner.logs.unwrap_or_default() {
            let data = log.log_data.0;
            match log.log_type.as_str() {
                "ImaLog" => put(&mut logs.ima, Some(data), Vec::is_empty, "IMA log")?,
                "CCEL" if data.len() > MAX_BOOT_LOG_SIZE => {
                    return Err(EnvelopeError::BootLogSize { found: data.len() });
                }
                "CCEL" => {
                    let boot = BootLog { table: Vec::new(), data };
                    put(&mut logs.boot, Some(boot), |log| log.data.is_empty(), "boot log")?;
                }
                other => return Err(EnvelopeError::LogType { found: crate::quote(other) }),
            }
        }
        Ok(Self { token: inner.vcca_token.0, device_certificate: inner.dev_cert.0, logs })
    }
}

/// The object of Global Trust Authority.
pub(super) fn write_gta(evidence: &VirtccaEvidence) -> Value {
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let log = |kind: &str, data: &[u8]| json!({ "log_type": kind, "log_data": base64(data) });
    let mut logs = Vec::new();
    logs.extend(evidence.logs.ima.as_deref().map(|ima| log("ImaLog", ima)));
    logs.extend(evidence.logs.boot.as_ref().map(|boot| log("CCEL", &boot.data)));
    let certificate = base64(&evidence.device_certificate);
    json!({ "vcca_token": base64(&evidence.token), "dev_cert": certificate, "logs": logs })
}
