//! How a TPM signs (`TPMT_SIGNATURE`, Part 2, 11.3.4).

use super::TpmError;
use super::fields::{Fields, put_sized};
use crate::bank::Bank;

/// A scheme that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa,
    /// RSASSA-PSS.
    RsaPss,
    /// ECDSA.
    Ecdsa,
}

impl SignatureScheme {
    const ALL: [Self; 3] = [Self::RsaSsa, Self::RsaPss, Self::Ecdsa];

    pub(super) fn from_tcg(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.tcg() == id)
    }

    pub(super) const fn tcg(self) -> u16 {
        match self {
            Self::RsaSsa => 0x0014,
            Self::RsaPss => 0x0016,
            Self::Ecdsa => 0x0018,
        }
    }
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The hash function of what is signed.
    pub hash: Bank,
    /// The signature itself.
    pub value: SignatureValue,
}

/// The signature itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureValue {
    /// Of RSASSA-PKCS1-v1_5.
    RsaSsa(Vec<u8>),
    /// Of RSASSA-PSS.
    RsaPss(Vec<u8>),
    /// Of ECDSA: two numbers, with or without leading zeros.
    Ecdsa {
        /// r.
        r: Vec<u8>,
        /// s.
        s: Vec<u8>,
    },
}

impl Signature {
    /// Reads a `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut fields = Fields::new("TPMT_SIGNATURE", bytes)?;
        let found = fields.u16("scheme")?;
        let scheme = SignatureScheme::from_tcg(found).ok_or_else(|| fields.algorithm("scheme", found))?;
        let hash = fields.hash("hash")?;
        let value = match scheme {
            SignatureScheme::RsaSsa => SignatureValue::RsaSsa(fields.sized("signature")?.to_vec()),
            SignatureScheme::RsaPss => SignatureValue::RsaPss(fields.sized("signature")?.to_vec()),
            SignatureScheme::Ecdsa => SignatureValue::Ecdsa {
                r: fields.sized("signature (r)")?.to_vec(),
                s: fields.sized("signature (s)")?.to_vec(),
            },
        };
        fields.end()?;
        Ok(Self { hash, value })
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.scheme().tcg().to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.hash.tcg().to_be_bytes());
        match &self.value {
            SignatureValue::RsaSsa(value) | SignatureValue::RsaPss(value) => put_sized(&mut bytes, value),
            SignatureValue::Ecdsa { r, s } => {
                put_sized(&mut bytes, r);
                put_sized(&mut bytes, s);
            }
        }
        bytes
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> SignatureScheme {
        match self.value {
            SignatureValue::RsaSsa(_) => SignatureScheme::RsaSsa,
            SignatureValue::RsaPss(_) => SignatureScheme::RsaPss,
            SignatureValue::Ecdsa { .. } => SignatureScheme::Ecdsa,
        }
    }
}
