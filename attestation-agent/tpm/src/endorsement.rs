//! Endorsement keys: made again from the manufacturer's seed, as its certificate has them.

use std::fmt;

use evidence::bank::Bank;
use evidence::tpm::{AsymmetricKey, Attributes, EccCurve, Public, Scheme, Symmetric};

use crate::command::{Tpm, Transient};
use crate::{Auth, Error, Handle};

/// A kind of endorsement key, of those whose certificates are in the low range of indexes (EK Credential Profile 2.5, 2.2.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EkKind {
    /// RSA of 2048 bits (template L-1).
    #[default]
    Rsa,
    /// P-256 (template L-2).
    Ecc,
}

/// SHA-256 of the policy that the endorsement hierarchy's password satisfies (policy A).
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
const RSA_LEN: usize = 256;
/// Longest certificate, in bytes: as long as an index can be.
const MAX_CERTIFICATE: usize = 4096;

impl EkKind {
    /// Where the manufacturer left the certificate.
    #[must_use]
    pub const fn certificate_index(self) -> Handle {
        match self {
            Self::Rsa => Handle(0x01c0_0002),
            Self::Ecc => Handle(0x01c0_000a),
        }
    }

    /// Where it left the nonce and the template, if the key is not made by the default one.
    const fn template_indexes(self) -> (Handle, Handle) {
        match self {
            Self::Rsa => (Handle(0x01c0_0003), Handle(0x01c0_0004)),
            Self::Ecc => (Handle(0x01c0_000b), Handle(0x01c0_000c)),
        }
    }

    /// The default template.
    fn template(self) -> Public {
        let attributes = Attributes::FIXED_TPM
            .and(Attributes::FIXED_PARENT)
            .and(Attributes::SENSITIVE_DATA_ORIGIN)
            .and(Attributes::ADMIN_WITH_POLICY)
            .and(Attributes::RESTRICTED)
            .and(Attributes::DECRYPT);
        let key = match self {
            Self::Rsa => AsymmetricKey::Rsa { bits: 2048, exponent: 0, modulus: vec![0; RSA_LEN] },
            Self::Ecc => {
                let zero = vec![0; EccCurve::P256.coordinate_len()];
                AsymmetricKey::Ecc { curve: EccCurve::P256, x: zero.clone(), y: zero }
            }
        };
        Public {
            name_algorithm: Bank::Sha256,
            attributes,
            auth_policy: POLICY_A.to_vec(),
            symmetric: Symmetric::AesCfb { bits: 128 },
            scheme: Scheme::Null,
            key,
        }
    }
}

impl fmt::Display for EkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::Ecc => "ECC",
        })
    }
}

/// An endorsement key, loaded: it takes room in the TPM until it is flushed.
#[derive(Clone, Debug)]
pub struct EndorsementKey(pub(crate) Transient);

impl EndorsementKey {
    /// Makes the key again, by the template that the manufacturer left in the TPM or else by the TCG's default.
    ///
    /// # Errors
    /// [`Error`].
    pub fn create(tpm: &mut Tpm, kind: EkKind, endorsement: &Auth, owner: &Auth) -> Result<Self, Error> {
        let template = template(tpm, kind, owner)?;
        tpm.create_primary(Handle::ENDORSEMENT, endorsement, &template).map(Self)
    }

    /// The public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.0.public
    }

    /// Lets go of the key.
    ///
    /// # Errors
    /// [`Error`].
    pub fn flush(self, tpm: &mut Tpm) -> Result<(), Error> {
        tpm.flush(self.0.handle)
    }
}

fn template(tpm: &mut Tpm, kind: EkKind, owner: &Auth) -> Result<Public, Error> {
    let (nonce, template) = kind.template_indexes();
    if let Some(bytes) = tpm.nv_read(template, owner)? {
        return Ok(Public::decode(&bytes)?);
    }
    let mut template = kind.template();
    if let Some(nonce) = tpm.nv_read(nonce, owner)? {
        // B.4.1: the nonce, and zeros after it, is the unique field.
        let start = match &mut template.key {
            AsymmetricKey::Rsa { modulus, .. } => modulus,
            AsymmetricKey::Ecc { x, .. } => x,
        };
        start.iter_mut().zip(nonce).for_each(|(to, from)| *to = from);
    }
    Ok(template)
}

/// The certificate that the manufacturer left in the TPM, in DER.
///
/// # Errors
/// [`Error::NoCertificate`] if there is none.
pub fn endorsement_certificate(tpm: &mut Tpm, kind: EkKind, owner: &Auth) -> Result<Vec<u8>, Error> {
    let index = kind.certificate_index();
    let content = tpm.nv_read(index, owner)?.ok_or(Error::NoCertificate { kind, index })?;
    certificate(&content).map(<[u8]>::to_vec).ok_or(Error::Certificate { index })
}

/// The certificate in an index, which may be longer than it: a SEQUENCE says how long it is (X.690, 8.1.3).
fn certificate(content: &[u8]) -> Option<&[u8]> {
    let [0x30, 0x82, high, low, ..] = content else { return None };
    let len = 4 + usize::from(u16::from_be_bytes([*high, *low]));
    content.get(..len).filter(|found| found.len() <= MAX_CERTIFICATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_where_it_says() {
        let whole = [&[0x30, 0x82, 0, 2, 1, 2][..], &[0xff; 10]].concat();
        assert_eq!(certificate(&whole), Some(&whole[..6]));
        assert_eq!(certificate(&[0x30, 0x82, 0, 2, 1]), None);
        assert_eq!(certificate(&[]), None);
        assert_eq!(certificate(&[0x10; 64]), None);
    }
}
