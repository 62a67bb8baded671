//! The JSON in which evidence travels: `{"tee":"cca","evidence":"<inner JSON text>"}`.
//!
//! The inner text is an object of the kind of TEE; for CCA `{"token":...}`, the token either base64url text, which is
//! what this crate writes, or an array of byte values, which is what CoCo's and secGear's agents write. Fields that are not
//! known are ignored, as those projects do.

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cca::MAX_TOKEN_SIZE;

/// Largest envelope that is read, in bytes: room for the largest token as an array of byte values. Without a bound a
/// sender decides how much memory decoding takes.
pub const MAX_ENVELOPE_SIZE: usize = 5 * MAX_TOKEN_SIZE;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A kind of trusted execution environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tee {
    /// A Realm of Arm CCA.
    Cca,
}

impl Tee {
    fn name(self) -> &'static str {
        match self {
            Self::Cca => "cca",
        }
    }

    /// secGear's agents spell the name in several ways, and its service reads any case.
    fn from_name(name: &str) -> Option<Self> {
        ["cca", "rustcca"].iter().any(|known| name.eq_ignore_ascii_case(known)).then_some(Self::Cca)
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
    /// A CCA token, for [`crate::cca::CcaToken::decode`].
    Cca(Vec<u8>),
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
    #[error("the evidence is not a JSON object with the text fields \"tee\" and \"evidence\"")]
    Outer(#[source] serde_json::Error),
    /// Evidence of a kind that is not known.
    #[error("evidence of the kind {found} is not supported: expected \"cca\"")]
    Tee {
        /// The kind, shortened.
        found: String,
    },
    /// Not the inner object.
    #[error(
        "the {tee} evidence is not a JSON object with the field \"token\", base64url text or an array of bytes"
    )]
    Inner {
        /// The kind of evidence.
        tee: Tee,
        /// What is wrong.
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    tee: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    evidence: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Inner {
    token: Token,
}

impl Evidence {
    /// Evidence that is a CCA token.
    pub fn cca(token: Vec<u8>) -> Self {
        Self::Cca(token)
    }

    /// The kind of environment that this is evidence of.
    pub fn tee(&self) -> Tee {
        match self {
            Self::Cca(_) => Tee::Cca,
        }
    }

    /// Writes the envelope.
    pub fn to_json(&self) -> String {
        let inner = match self {
            Self::Cca(token) => serde_json::json!({ "token": BASE64.encode(token) }),
        };
        serde_json::json!({ "tee": self.tee().name(), "evidence": inner.to_string() }).to_string()
    }

    /// Reads an envelope.
    ///
    /// # Errors
    ///
    /// Anything else than an envelope with evidence of a known kind.
    pub fn from_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        if json.len() > MAX_ENVELOPE_SIZE {
            return Err(EnvelopeError::TooLarge { found: json.len() });
        }
        let outer: Outer<'_> = serde_json::from_slice(json).map_err(EnvelopeError::Outer)?;
        let tee = Tee::from_name(&outer.tee)
            .ok_or_else(|| EnvelopeError::Tee { found: crate::quote(&outer.tee) })?;
        match tee {
            Tee::Cca => {
                let inner: Inner = serde_json::from_str(&outer.evidence)
                    .map_err(|source| EnvelopeError::Inner { tee, source })?;
                Ok(Self::Cca(inner.token.0))
            }
        }
    }
}

/// Bytes as base64url text, padded or not, or as an array of numbers.
struct Token(Vec<u8>);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokenVisitor;

        impl<'de> Visitor<'de> for TokenVisitor {
            type Value = Token;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "base64url text or an array of bytes, at most {MAX_TOKEN_SIZE} bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Token, E> {
                let bytes = BASE64.decode(text).map_err(E::custom)?;
                if bytes.len() > MAX_TOKEN_SIZE {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                Ok(Token(bytes))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Token, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = array.next_element()? {
                    if bytes.len() == MAX_TOKEN_SIZE {
                        return Err(de::Error::invalid_length(bytes.len() + 1, &self));
                    }
                    bytes.push(byte);
                }
                Ok(Token(bytes))
            }
        }

        deserializer.deserialize_any(TokenVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(tee: &str, inner: &str) -> Vec<u8> {
        serde_json::json!({ "tee": tee, "evidence": inner }).to_string().into_bytes()
    }

    fn read(tee: &str, inner: &str) -> Result<Vec<u8>, EnvelopeError> {
        Evidence::from_json(&envelope(tee, inner)).map(|Evidence::Cca(token)| token)
    }

    #[test]
    fn writes_the_documented_form() {
        let json = Evidence::cca(vec![0xfb, 0xff, 0x01]).to_json();
        let outer: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(outer, serde_json::json!({ "tee": "cca", "evidence": "{\"token\":\"-_8B\"}" }));
    }

    #[test]
    fn reads_tokens_as_base64url_and_as_array() {
        for inner in
            [r#"{"token":"-_8B"}"#, r#"{"token":[251,255,1]}"#, r#"{"token":[251,255,1],"ima_log":null}"#]
        {
            assert_eq!(read("cca", inner).unwrap(), [0xfb, 0xff, 0x01], "{inner}");
        }
        assert_eq!(read("cca", r#"{"token":"_w=="}"#).unwrap(), [0xff]);
    }

    #[test]
    fn reads_every_spelling_of_the_tee() {
        for tee in ["cca", "CCA", "Cca", "rustcca", "Rustcca", "RUSTCCA"] {
            assert_eq!(read(tee, r#"{"token":[1]}"#).unwrap(), [1], "{tee}");
        }
    }

    #[test]
    fn refuses_other_tees_by_name() {
        for tee in ["", "virtcca", "cca ", "\u{212a}ca", "x\u{1b}[31m"] {
            let error = read(tee, r#"{"token":[1]}"#).unwrap_err();
            assert!(
                matches!(&error, EnvelopeError::Tee { found } if !found.contains('\u{1b}')),
                "{tee}: {error}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_envelope() {
        for json in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"tee":"cca"}"#,
            r#"{"evidence":"{}"}"#,
            r#"{"tee":"cca","evidence":{"token":[1]}}"#,
            r#"{"tee":"cca","tee":"cca","evidence":"{\"token\":[1]}"}"#,
            r#"{"tee":"cca","evidence":"{\"token\":[1]}"} x"#,
        ] {
            assert!(matches!(Evidence::from_json(json.as_bytes()), Err(EnvelopeError::Outer(_))), "{json}");
        }
    }

    #[test]
    fn refuses_what_is_no_token() {
        for inner in [
            "",
            "{}",
            r#"{"token":null}"#,
            r#"{"token":1}"#,
            r#"{"token":[256]}"#,
            r#"{"token":[-1]}"#,
            r#"{"token":[1.0]}"#,
            r#"{"token":["1"]}"#,
            r#"{"token":"+/8B"}"#,
            r#"{"token":"-_8"}x"#,
            r#"{"token":[1],"token":[2]}"#,
        ] {
            assert!(matches!(read("cca", inner), Err(EnvelopeError::Inner { .. })), "{inner}");
        }
    }

    #[test]
    fn largest_token_fits_in_both_forms_and_one_byte_more_does_not() {
        let array = |len| serde_json::json!({ "token": vec![255u8; len] }).to_string();
        let text = |len| serde_json::json!({ "token": BASE64.encode(vec![255u8; len]) }).to_string();
        for form in [&array as &dyn Fn(usize) -> String, &text] {
            assert_eq!(read("cca", &form(MAX_TOKEN_SIZE)).unwrap().len(), MAX_TOKEN_SIZE);
            assert!(matches!(read("cca", &form(MAX_TOKEN_SIZE + 1)), Err(EnvelopeError::Inner { .. })));
        }
        let padded = [&envelope("cca", r#"{"token":[1]}"#)[..], &vec![b' '; MAX_ENVELOPE_SIZE]].concat();
        assert!(matches!(Evidence::from_json(&padded), Err(EnvelopeError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(token in prop::collection::vec(any::<u8>(), 0..300)) {
            let evidence = Evidence::cca(token);
            prop_assert_eq!(Evidence::from_json(evidence.to_json().as_bytes()).unwrap(), evidence);
        }

        #[test]
        fn foreign_bytes_never_panic(json in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Evidence::from_json(&json);
        }
    }
}
