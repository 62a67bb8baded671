//! The JSON in which evidence travels.
//!
//! The outer object is `{"tee":"virtcca","evidence":"<inner JSON text>"}`; the inner text is an object of the kind of TEE.
//! Byte strings are base64url text, which is what this crate writes by itself, or arrays of byte values, which is what the
//! agents of CoCo and secGear write. The dialects of secGear ([`Dialect`]) and the envelope of Global Trust Authority are
//! read into the same model. Fields that are not known are ignored, as all those projects do; a log under any of its known
//! names is never lost.

mod bytes;
mod inner;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use thiserror::Error;

pub use self::inner::Dialect;

/// Largest envelope that is read, in bytes: a binary IMA log of 100,000 files (10 MB) and the largest boot log fit in as
/// base64, and 8 MiB of logs as arrays of byte values. Without a bound a sender decides how much memory decoding takes.
pub const MAX_ENVELOPE_SIZE: usize = 32 * 1024 * 1024;

/// Largest device certificate that is read, in bytes: the TSI gives 4 KiB at most; the rest is room for its issuers in PEM.
pub const MAX_CERTIFICATE_SIZE: usize = 16 * 1024;

/// Largest IMA log that is read, in bytes: about 200,000 files. Each entry is hashed, so the sender decides how long that
/// takes.
pub const MAX_IMA_LOG_SIZE: usize = 20 * 1024 * 1024;

/// Largest boot log that is read, in bytes. Firmware reserves 64 KiB to 1 MiB for it.
pub const MAX_BOOT_LOG_SIZE: usize = 5 * 1024 * 1024;

/// Largest ACPI table that is read, in bytes. CCEL has 56.
pub const MAX_BOOT_TABLE_SIZE: usize = 4 * 1024;

/// A kind of trusted execution environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tee {
    /// A Realm of Arm CCA.
    Cca,
    /// A confidential virtual machine (CVM) of virtCCA.
    Virtcca,
}

impl Tee {
    /// The name that this crate writes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cca => "cca",
            Self::Virtcca => "virtcca",
        }
    }

    /// secGear's agents spell the names in several ways, and its service reads any case.
    fn from_name(name: &str) -> Option<Self> {
        const SPELLINGS: [(&str, Tee); 4] =
            [("cca", Tee::Cca), ("rustcca", Tee::Cca), ("virtcca", Tee::Virtcca), ("vcca", Tee::Virtcca)];
        SPELLINGS.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, tee)| tee)
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Evidence of one environment, not yet decoded further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Evidence of a Realm of Arm CCA.
    Cca(CcaEvidence),
    /// Evidence of a CVM of virtCCA.
    Virtcca(VirtccaEvidence),
}

/// Evidence of a Realm of Arm CCA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CcaEvidence {
    /// A token, for [`crate::cca::CcaToken::decode`].
    pub token: Vec<u8>,
    /// What was logged since the start.
    pub logs: Logs,
}

/// Evidence of a CVM of virtCCA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtccaEvidence {
    /// A token, with or without a Platform Token.
    pub token: Vec<u8>,
    /// The device certificate: one in DER, or in PEM, where certificates of its issuers may follow.
    pub device_certificate: Vec<u8>,
    /// What was logged since the start.
    pub logs: Logs,
}

impl VirtccaEvidence {
    /// Reads the object that Global Trust Authority calls the evidence of `virt_cca`.
    ///
    /// # Errors
    ///
    /// Anything else than this object.
    pub fn from_gta_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        if json.len() > MAX_ENVELOPE_SIZE {
            return Err(EnvelopeError::TooLarge { found: json.len() });
        }
        let evidence: inner::Gta = serde_json::from_slice(json)
            .map_err(|source| EnvelopeError::Inner { tee: Tee::Virtcca, source })?;
        evidence.try_into()
    }

    /// Writes that object.
    #[must_use]
    pub fn to_gta_json(&self) -> String {
        inner::write_gta(self).to_string()
    }
}

/// Logs that explain extensible measurements. An empty log is no log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// Linux IMA's list of measurements, binary or as text.
    pub ima: Option<Vec<u8>>,
    /// The firmware's boot log.
    pub boot: Option<BootLog>,
}

/// A boot log as ACPI presents it (CCEL).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootLog {
    /// The ACPI table; empty where the envelope has no place for it.
    pub table: Vec<u8>,
    /// The event log (TCG PC Client Platform Firmware Profile, crypto-agile format).
    pub data: Vec<u8>,
}

/// The bytes are not an evidence envelope.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// More bytes than any evidence needs.
    #[error("the evidence has {found} bytes; at most {MAX_ENVELOPE_SIZE} are read")]
    TooLarge {
        /// Bytes given.
        found: usize,
    },
    /// Not the outer object.
    #[error(
        "the evidence is not a JSON object with the fields \"tee\" and \"evidence\", both text, \
         or \"attester_type\" and \"evidence\", text and an object"
    )]
    Outer(#[source] serde_json::Error),
    /// Evidence of a kind that is not known.
    #[error("evidence of the kind {found} is not supported: expected \"cca\" or \"virtcca\"")]
    Tee {
        /// The kind, shortened.
        found: String,
    },
    /// Not the inner object.
    #[error("the {tee} evidence is not a JSON object with {}", inner::fields(*.tee))]
    Inner {
        /// The kind of evidence.
        tee: Tee,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Two logs of a kind, of which only one can be the one that was measured.
    #[error("the evidence has more than one {log}: send one, under one name")]
    DuplicateLog {
        /// `IMA log` or `boot log`.
        log: &'static str,
    },
    /// More bytes than any boot log needs.
    #[error("the boot log has {found} bytes; at most {MAX_BOOT_LOG_SIZE} are read")]
    BootLogSize {
        /// Bytes given.
        found: usize,
    },
    /// A log of a kind that is not known. It is not ignored: its measurements would go unexplained.
    #[error("logs of the type {found} are not supported: expected \"ImaLog\" or \"CCEL\"")]
    LogType {
        /// The type, shortened.
        found: String,
    },
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow, alias = "attester_type")]
    tee: Cow<'a, str>,
    #[serde(borrow)]
    evidence: Content<'a>,
}

impl Evidence {
    /// Evidence that is a CCA token, without logs.
    pub fn cca(token: Vec<u8>) -> Self {
        Self::Cca(CcaEvidence { token, logs: Logs::default() })
    }

    /// The kind of environment that this is evidence of.
    pub fn tee(&self) -> Tee {
        match self {
            Self::Cca(_) => Tee::Cca,
            Self::Virtcca(_) => Tee::Virtcca,
        }
    }

    /// What was logged since the start.
    pub fn logs(&self) -> &Logs {
        match self {
            Self::Cca(evidence) => &evidence.logs,
            Self::Virtcca(evidence) => &evidence.logs,
        }
    }

    /// Writes the envelope in this crate's own dialect.
    pub fn to_json(&self) -> String {
        self.to_json_as(Dialect::Compact)
    }

    /// Writes the envelope in the given dialect.
    pub fn to_json_as(&self, dialect: Dialect) -> String {
        let inner = inner::encode(self, dialect).to_string();
        serde_json::json!({ "tee": dialect.tee(self.tee()), "evidence": inner }).to_string()
    }

    /// Reads an envelope of any known dialect.
    ///
    /// # Errors
    ///
    /// Anything else than an envelope with evidence of a known kind.
    pub fn from_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        if json.len() > MAX_ENVELOPE_SIZE {
            return Err(EnvelopeError::TooLarge { found: json.len() });
        }
        let outer: Outer<'_> = serde_json::from_slice(json).map_err(EnvelopeError::Outer)?;
        match (outer.evidence, Tee::from_name(&outer.tee)) {
            (Content::Text(text), Some(Tee::Cca)) => inner::decode_cca(&text).map(Self::Cca),
            (Content::Text(text), Some(Tee::Virtcca)) => inner::decode_virtcca(&text).map(Self::Virtcca),
            (Content::Gta(evidence), _) if outer.tee == "virt_cca" => evidence.try_into().map(Self::Virtcca),
            _ => Err(EnvelopeError::Tee { found: crate::quote(&outer.tee) }),
        }
    }
}

/// Global Trust Authority nests an object, everybody else text.
enum Content<'a> {
    Text(Cow<'a, str>),
    Gta(inner::Gta),
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;

        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or the object of Global Trust Authority")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Content<'de>, A::Error> {
                inner::Gta::deserialize(MapAccessDeserializer::new(map)).map(Content::Gta)
            }
        }

        deserializer.deserialize_any(ContentVisitor)
    }
}
