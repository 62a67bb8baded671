//! What a transit engine answers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Longest wrapped key, in characters. One of 32 bytes has about a hundred.
const MAX_CIPHERTEXT: usize = 512;
const PREFIX: &str = "vault:v";

/// The part of every answer that is about what was asked for.
#[derive(Deserialize)]
pub struct Answer<T> {
    pub data: T,
}

/// What a key is. What a server leaves out is not taken to be harmless.
#[derive(Deserialize)]
pub struct Description {
    #[serde(rename = "type")]
    pub kind: String,
    pub derived: bool,
    pub exportable: bool,
    pub allow_plaintext_backup: bool,
    /// Oldest version that still decrypts.
    pub min_decryption_version: u32,
    /// Of OpenBao only: it is to be deleted, and does nothing until it is restored.
    #[serde(default)]
    pub soft_deleted: bool,
}

impl Description {
    /// What makes the key unfit to be a master key.
    pub fn flaw(&self) -> Option<&'static str> {
        if !matches!(self.kind.as_str(), "aes256-gcm96" | "chacha20-poly1305" | "xchacha20-poly1305") {
            return Some(
                "its type is none that wraps with 256 bits and authenticates what a secret is for: aes256-gcm96, \
                 chacha20-poly1305 or xchacha20-poly1305",
            );
        }
        if self.derived {
            return Some("it is derived (or convergent), so it is another key for each context");
        }
        if self.exportable {
            return Some("it is exportable, so whoever has the policy can take it away");
        }
        if self.allow_plaintext_backup {
            return Some("it has allow_plaintext_backup, so whoever has the policy can take it away");
        }
        self.soft_deleted.then_some("it is soft-deleted; restore it, if it was not meant to be")
    }
}

/// What the engine makes of a key: `vault:vN:...`, with the version of the key that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    text: String,
    /// Version of the key.
    pub version: u32,
}

impl Ciphertext {
    /// Reads one; none, if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_CIPHERTEXT {
            return None;
        }
        let (version, content) = text.strip_prefix(PREFIX)?.split_once(':')?;
        let number: u32 = version.parse().ok()?;
        // Zero stands for the newest, and there is one way to write a number.
        if number == 0 || number.to_string() != version {
            return None;
        }
        if content.is_empty() || STANDARD.decode(content).is_err() {
            return None;
        }
        Some(Self { text: text.to_owned(), version: number })
    }

    /// As the engine wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<'de> Deserialize<'de> for Ciphertext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no ciphertext of a transit engine"))
    }
}

/// What `encrypt` answers.
#[derive(Deserialize)]
pub struct Encrypted {
    pub ciphertext: Ciphertext,
}

/// What was wrapped.
pub struct Plaintext(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext")
    }
}

impl<'de> Deserialize<'de> for Plaintext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| serde::de::Error::custom("no Base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// What `decrypt` answers, for one.
#[derive(Deserialize)]
pub struct Decrypted {
    pub plaintext: Plaintext,
}

/// What `decrypt` answers, for several.
#[derive(Deserialize)]
pub struct DecryptedAll {
    pub batch_results: Vec<Decrypted>,
}

/// What `hmac` answers.
#[derive(Deserialize)]
pub struct Mac {
    /// `vault:vN:...`, as a ciphertext has it.
    pub hmac: Ciphertext,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_engine_writes_is_a_ciphertext() {
        let long = format!("vault:v1:{}", "A".repeat(MAX_CIPHERTEXT));
        for text in [
            "",
            "vault:",
            "vault:v1",
            "vault:v1:",
            "vault:v:AAAA",
            "vault:v0:AAAA",
            "vault:v01:AAAA",
            "vault:v+1:AAAA",
            "vault:v4294967296:AAAA",
            "vault:v-1:AAAA",
            "vault:v1:AAA",
            "vault:v1:AA\"A",
            "vault:v1:AAAA\n",
            "vault:v1:AAAA:AAAA",
            "Vault:v1:AAAA",
            "transit:v1:AAAA",
            &long,
        ] {
            assert_eq!(Ciphertext::parse(text), None, "{text:?}");
        }
        let good = Ciphertext::parse("vault:v12:AAAA").unwrap();
        assert_eq!((good.as_str(), good.version), ("vault:v12:AAAA", 12));
    }

    #[test]
    fn a_description_that_leaves_something_out_is_none() {
        let whole = serde_json::json!({
            "type": "aes256-gcm96", "derived": false, "exportable": false, "allow_plaintext_backup": false,
            "min_decryption_version": 1,
        });
        let read = |value: &serde_json::Value| serde_json::from_value::<Description>(value.clone());
        assert_eq!(read(&whole).unwrap().flaw(), None);
        for name in ["type", "derived", "exportable", "allow_plaintext_backup", "min_decryption_version"] {
            let mut partial = whole.clone();
            partial.as_object_mut().unwrap().remove(name);
            assert!(read(&partial).is_err(), "{name}");
        }
    }
}
