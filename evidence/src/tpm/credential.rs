//! A credential that only the TPM with one endorsement key opens, and only for one attestation key (Part 1, 24: Credential
//! Protection).

use super::TpmError;
use super::fields::{Fields, put_sized};

/// A protected credential (`TPM2B_ID_OBJECT`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdObject {
    /// HMAC over the encrypted credential and the name of the key that it is for.
    pub integrity: Vec<u8>,
    /// The encrypted credential.
    pub encrypted: Vec<u8>,
}

impl IdObject {
    /// Reads a `TPM2B_ID_OBJECT`.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut outer = Fields::new("TPM2B_ID_OBJECT", bytes)?;
        let content = outer.sized("content")?;
        outer.end()?;
        let mut fields = Fields::new("TPMS_ID_OBJECT", content)?;
        let integrity = fields.sized("integrityHMAC")?.to_vec();
        Ok(Self { integrity, encrypted: fields.rest().to_vec() })
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        put_sized(&mut content, &self.integrity);
        content.extend_from_slice(&self.encrypted);
        let mut bytes = Vec::new();
        put_sized(&mut bytes, &content);
        bytes
    }
}

/// The seed of a protected credential, encrypted to an endorsement key (`TPM2B_ENCRYPTED_SECRET`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedSecret {
    /// A ciphertext of RSA, or an ephemeral point (`TPMS_ECC_POINT`).
    pub secret: Vec<u8>,
}

impl EncryptedSecret {
    /// The secret that tells an ephemeral public key.
    #[must_use]
    pub fn of_point(x: &[u8], y: &[u8]) -> Self {
        let mut secret = Vec::new();
        put_sized(&mut secret, x);
        put_sized(&mut secret, y);
        Self { secret }
    }

    /// The coordinates of the ephemeral public key.
    ///
    /// # Errors
    /// [`TpmError`] if it is not a point.
    pub fn point(&self) -> Result<(&[u8], &[u8]), TpmError> {
        let mut fields = Fields::new("TPMS_ECC_POINT", &self.secret)?;
        let (x, y) = (fields.sized("x")?, fields.sized("y")?);
        fields.end()?;
        Ok((x, y))
    }

    /// Reads a `TPM2B_ENCRYPTED_SECRET`.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut fields = Fields::new("TPM2B_ENCRYPTED_SECRET", bytes)?;
        let secret = fields.sized("secret")?.to_vec();
        fields.end()?;
        Ok(Self { secret })
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_sized(&mut bytes, &self.secret);
        bytes
    }
}
