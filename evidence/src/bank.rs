//! Banks of measurement registers, which all are extended alike: the platform configuration registers (PCR) of a TPM
//! and the extensible measurements (REM) of a Realm. `new = H(old || digest)`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::{Digest, HashAlgorithm};

/// Bytes in the longest value of a register.
const MAX_LEN: usize = 64;

/// The hash function of a bank. The names are those of `tpm2_pcrread` and of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bank {
    /// SHA-1: for old TPMs only, collisions are known.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SM3 (GB/T 32905-2016), 32 bytes.
    #[serde(rename = "sm3_256")]
    Sm3,
}

impl Bank {
    /// Every bank.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512, Self::Sm3];

    /// The bank with this identifier in the TCG algorithm registry (`TPM_ALG_ID`).
    pub fn from_tcg(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.tcg() == id)
    }

    /// The identifier in the TCG algorithm registry (`TPM_ALG_ID`).
    pub const fn tcg(self) -> u16 {
        match self {
            Self::Sha1 => 0x04,
            Self::Sha256 => 0x0b,
            Self::Sha384 => 0x0c,
            Self::Sha512 => 0x0d,
            Self::Sm3 => 0x12,
        }
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sm3 => "sm3_256",
        }
    }

    /// Bytes in a value.
    #[expect(clippy::len_without_is_empty, reason = "a size, not a collection")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sm3 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Hashes the concatenation of `parts`.
    pub fn hash<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> BankValue {
        let mut value = BankValue::zero(self);
        let to = &mut value.bytes;
        match self {
            Self::Sha1 => hash_into::<sha1::Sha1>(parts, to),
            Self::Sha256 => hash_into::<sha2::Sha256>(parts, to),
            Self::Sha384 => hash_into::<sha2::Sha384>(parts, to),
            Self::Sha512 => hash_into::<sha2::Sha512>(parts, to),
            Self::Sm3 => hash_into::<sm3::Sm3>(parts, to),
        }
        value
    }
}

/// Writes the hash to the front of `to`, without a copy between: lists of files have a hundred thousand entries.
fn hash_into<'a, H: sha2::Digest>(parts: impl IntoIterator<Item = &'a [u8]>, to: &mut [u8; MAX_LEN]) {
    let mut hash = H::new();
    for part in parts {
        hash.update(part);
    }
    if let Some(to) = to.get_mut(..<H as sha2::Digest>::output_size()).and_then(|to| to.try_into().ok()) {
        hash.finalize_into(to);
    }
}

impl From<HashAlgorithm> for Bank {
    fn from(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => Self::Sha256,
            HashAlgorithm::Sha384 => Self::Sha384,
            HashAlgorithm::Sha512 => Self::Sha512,
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of a register, or a digest to extend one with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BankValue {
    bank: Bank,
    bytes: [u8; MAX_LEN],
}

impl BankValue {
    /// All bytes zero: how most registers start.
    pub const fn zero(bank: Bank) -> Self {
        Self { bank, bytes: [0; MAX_LEN] }
    }

    /// All bytes 0xff: how the registers of a dynamic launch start, and what Linux extends for a violation.
    pub fn ones(bank: Bank) -> Self {
        let mut value = Self::zero(bank);
        value.bytes.iter_mut().take(bank.len()).for_each(|byte| *byte = 0xff);
        value
    }

    /// Zero but for the last byte: PCR 0 after a start with this locality.
    pub fn locality(bank: Bank, locality: u8) -> Self {
        let mut value = Self::zero(bank);
        if let Some(last) = value.bytes.get_mut(bank.len() - 1) {
            *last = locality;
        }
        value
    }

    /// Shorter `bytes` and zeros after them.
    pub fn padded(bank: Bank, bytes: &[u8]) -> Self {
        let mut value = Self::zero(bank);
        for (to, from) in value.bytes.iter_mut().take(bank.len()).zip(bytes) {
            *to = *from;
        }
        value
    }

    /// Takes `bytes` as a value of `bank`, if they have its length.
    pub fn from_slice(bank: Bank, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == bank.len()).then(|| Self { bank, bytes: pad(bytes) })
    }

    /// The bank.
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The value, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.bank.len()).unwrap_or(&self.bytes)
    }

    /// Whether all bytes are zero.
    pub fn is_zero(&self) -> bool {
        self.bytes == [0; MAX_LEN]
    }

    /// Extends the register with a digest of whatever length, as both TPMs and Realms do.
    pub fn extend(&mut self, digest: &[u8]) {
        fn run<H: sha2::Digest>(value: &mut [u8; MAX_LEN], digest: &[u8]) {
            let Some(value) = value.get_mut(..<H as sha2::Digest>::output_size()) else { return };
            let hash = H::new().chain_update(&*value).chain_update(digest);
            if let Ok(value) = value.try_into() {
                hash.finalize_into(value);
            }
        }
        let value = &mut self.bytes;
        match self.bank {
            Bank::Sha1 => run::<sha1::Sha1>(value, digest),
            Bank::Sha256 => run::<sha2::Sha256>(value, digest),
            Bank::Sha384 => run::<sha2::Sha384>(value, digest),
            Bank::Sha512 => run::<sha2::Sha512>(value, digest),
            Bank::Sm3 => run::<sm3::Sm3>(value, digest),
        }
    }

    /// The value as a hash value of a token, which are never SHA-1's.
    pub fn to_digest(&self) -> Option<Digest> {
        Digest::from_slice(self.as_bytes())
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for BankValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hash::write_hex(self.as_bytes(), f)
    }
}

impl fmt::Debug for BankValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.bank)
    }
}

fn pad(bytes: &[u8]) -> [u8; MAX_LEN] {
    let mut padded = [0; MAX_LEN];
    let len = bytes.len().min(MAX_LEN);
    if let (Some(to), Some(from)) = (padded.get_mut(..len), bytes.get(..len)) {
        to.copy_from_slice(from);
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_abc_as_the_standards_say() {
        for (bank, expected) in [
            (Bank::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Bank::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (Bank::Sm3, "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        ] {
            assert_eq!(bank.hash([&b"a"[..], b"bc"]).to_string(), expected);
        }
        for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
            let value = Bank::from(algorithm).hash([&b"abc"[..]]);
            assert_eq!(value.to_digest(), Some(algorithm.digest(b"abc")));
        }
    }

    #[test]
    fn extends_as_a_realm_does() {
        let mut register = BankValue::zero(Bank::Sha256);
        register.extend(Bank::Sha256.hash([&b"abc"[..]]).as_bytes());
        let expected = "589f9ffed4c477966bfb8d41f37895b08c69047df8f911d6f3b57fbe08faee8d";
        assert_eq!(register.to_string(), expected);
    }

    #[test]
    fn has_its_length_its_identifier_and_its_name() {
        for bank in Bank::ALL {
            assert_eq!(bank.hash([]).as_bytes().len(), bank.len());
            assert_eq!(Bank::from_tcg(bank.tcg()), Some(bank));
            assert_eq!(serde_json::to_string(&bank).unwrap(), format!("\"{bank}\""));
            assert!(BankValue::zero(bank).is_zero());
            assert_eq!(BankValue::ones(bank).as_bytes(), vec![0xff; bank.len()]);
            let locality = BankValue::locality(bank, 3);
            assert_eq!(locality.as_bytes().iter().position(|byte| *byte == 3), Some(bank.len() - 1));
            assert_eq!(BankValue::from_slice(bank, &[0; 63]), None);
        }
    }
}
