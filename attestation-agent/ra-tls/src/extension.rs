//! The extension that carries evidence or a token.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::binding::{CHALLENGE_LEN, NONCE_LEN};

/// Longest quote, in bytes: TLS messages of 64 KiB are the longest that libraries read.
pub const MAX_QUOTE_LEN: usize = 48 * 1024;
/// Longest extension read, in bytes; quotes inside JSON have their quotation marks escaped. Without the bound, a peer that
/// has proven nothing yet decides how much memory it takes.
const MAX_EXTENSION_LEN: usize = 64 * 1024;

/// What is in the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Evidence, which the verifier has appraised.
    Background,
    /// A token, which an attestation service has issued.
    Passport,
}

impl Flow {
    /// The extension's object identifier, under Huawei's arc, as secGear has it.
    #[must_use]
    pub const fn oid(self) -> &'static [u64] {
        match self {
            Self::Background => &[1, 3, 6, 1, 4, 1, 2011, 2, 8],
            Self::Passport => &[1, 3, 6, 1, 4, 1, 2011, 2, 10],
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Background => "evidence",
            Self::Passport => "a token",
        }
    }
}

/// The content of the extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The challenge as text, base64url.
    pub challenge: String,
    /// The same as bytes.
    pub challenge_bytes: [u8; CHALLENGE_LEN],
    /// Evidence (JSON), or a token (JWT).
    pub quote: String,
}

#[derive(Serialize, Deserialize)]
struct Json<'a> {
    #[serde(borrow)]
    challenge: Cow<'a, str>,
    #[serde(borrow)]
    quote: Cow<'a, str>,
}

impl Extension {
    /// Puts challenge and quote together.
    ///
    /// # Errors
    /// If the challenge is not 64 bytes in base64url, or the quote is too long.
    pub fn new(challenge: &str, quote: &str) -> Result<Self, Error> {
        if quote.len() > MAX_QUOTE_LEN {
            return Err(Error::TooLong { found: quote.len(), limit: MAX_QUOTE_LEN });
        }
        Ok(Self {
            challenge: challenge.to_owned(),
            challenge_bytes: decode(challenge)?,
            quote: quote.to_owned(),
        })
    }

    /// Reads the value of the extension.
    ///
    /// # Errors
    /// If it is not the JSON that it should be.
    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        if value.len() > MAX_EXTENSION_LEN {
            return Err(Error::Extension("it is too long"));
        }
        let json: Json<'_> = serde_json::from_slice(value)
            .map_err(|_| Error::Extension("it is not JSON with the texts \"challenge\" and \"quote\""))?;
        Self::new(&json.challenge, &json.quote)
    }

    /// The value of the extension.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let json = Json { challenge: Cow::Borrowed(&self.challenge), quote: Cow::Borrowed(&self.quote) };
        // Two texts always have a JSON form.
        serde_json::to_vec(&json).unwrap_or_default()
    }

    /// The verifier's half of the challenge.
    #[must_use]
    pub fn nonce(&self) -> &[u8] {
        self.challenge_bytes.get(..NONCE_LEN).unwrap_or_default()
    }
}

fn decode(challenge: &str) -> Result<[u8; CHALLENGE_LEN], Error> {
    let mut bytes = [0; CHALLENGE_LEN];
    match URL_SAFE_NO_PAD.decode_slice(challenge, &mut bytes) {
        Ok(CHALLENGE_LEN) => Ok(bytes),
        _ => Err(Error::Extension("its challenge is not 64 bytes in base64url without padding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let challenge = URL_SAFE_NO_PAD.encode([7; 64]);
        let extension = Extension::new(&challenge, r#"{"tee":"cca"}"#).unwrap();
        assert_eq!(Extension::decode(&extension.encode()).unwrap(), extension);
        assert_eq!(extension.nonce(), [7; 32]);
    }

    #[test]
    fn refuses_what_is_no_extension() {
        let short = URL_SAFE_NO_PAD.encode([7; 63]);
        let long = URL_SAFE_NO_PAD.encode([7; 65]);
        for value in [
            String::new(),
            "{}".to_owned(),
            "[]".to_owned(),
            format!(r#"{{"challenge":"{short}","quote":"q"}}"#),
            format!(r#"{{"challenge":"{long}","quote":"q"}}"#),
            r#"{"challenge":"***","quote":"q"}"#.to_owned(),
            format!(r#"{{"challenge":"{}","quote":1}}"#, URL_SAFE_NO_PAD.encode([7; 64])),
            " ".repeat(MAX_EXTENSION_LEN + 1),
        ] {
            assert!(Extension::decode(value.as_bytes()).is_err(), "{value:.100}");
        }
        let challenge = URL_SAFE_NO_PAD.encode([7; 64]);
        let quote = "q".repeat(MAX_QUOTE_LEN + 1);
        assert!(matches!(Extension::new(&challenge, &quote), Err(Error::TooLong { .. })));
    }
}
