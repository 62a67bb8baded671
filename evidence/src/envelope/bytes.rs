//! Bytes in JSON: base64 text, or an array of byte values.

use std::fmt;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

/// base64url, written without padding and read with or without it.
pub const BASE64URL: GeneralPurpose = engine(&URL_SAFE);

/// Standard base64, read with or without padding.
const BASE64: GeneralPurpose = engine(&STANDARD);

/// At most `MAX` bytes, as base64url text or as an array of numbers.
pub struct UrlBytes<const MAX: usize>(pub Vec<u8>);

/// At most `MAX` bytes, as standard base64 text or as an array of numbers.
pub struct StandardBytes<const MAX: usize>(pub Vec<u8>);

impl<'de, const MAX: usize> Deserialize<'de> for UrlBytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = BytesVisitor { engine: &BASE64URL, name: "base64url", max: MAX };
        deserializer.deserialize_any(visitor).map(Self)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for StandardBytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = BytesVisitor { engine: &BASE64, name: "base64", max: MAX };
        deserializer.deserialize_any(visitor).map(Self)
    }
}

struct BytesVisitor {
    engine: &'static GeneralPurpose,
    name: &'static str,
    max: usize,
}

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} text or an array of bytes, at most {} bytes", self.name, self.max)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let bytes = self.engine.decode(text).map_err(E::custom)?;
        if bytes.len() > self.max {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = array.next_element()? {
            if bytes.len() == self.max {
                return Err(de::Error::invalid_length(bytes.len() + 1, &self));
            }
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
