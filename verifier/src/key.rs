//! The public key of a trust anchor, in one canonical form.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    ParsedPublicKey,
};
use pem_rfc7468::LineEnding;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

/// A key that cannot be a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or not a public key in PEM.
    #[error("expected one PEM block \"PUBLIC KEY\" (SubjectPublicKeyInfo)")]
    NotPem,
    /// Not an uncompressed point on one of the curves.
    #[error("expected an uncompressed public key on P-256, P-384 or P-521")]
    NotEc,
}

/// An elliptic-curve public key: an uncompressed SEC1 point known to lie on its curve.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: Vec<u8>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// [`KeyError`] says what was expected.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)?;
        Self::from_der(&der)
    }

    /// Takes an uncompressed SEC1 point.
    ///
    /// # Errors
    /// [`KeyError::NotEc`] if the bytes are not such a point.
    pub fn from_sec1(point: &[u8]) -> Result<Self, KeyError> {
        if point.first() != Some(&4) {
            return Err(KeyError::NotEc);
        }
        Self::from_der(point)
    }

    fn from_der(bytes: &[u8]) -> Result<Self, KeyError> {
        let curves: [(&'static EcdsaVerificationAlgorithm, usize); 3] =
            [(&ECDSA_P256_SHA256_FIXED, 65), (&ECDSA_P384_SHA384_FIXED, 97), (&ECDSA_P521_SHA512_FIXED, 133)];
        curves
            .into_iter()
            .find_map(|(curve, point_len)| {
                let parsed = ParsedPublicKey::new(curve, bytes).ok()?;
                let spki = parsed.as_der().ok()?;
                // A named-curve SubjectPublicKeyInfo ends with the point itself.
                let point = spki.as_ref().get(spki.as_ref().len().checked_sub(point_len)?..)?;
                (point.first() == Some(&4)).then(|| Self { point: point.to_vec() })
            })
            .ok_or(KeyError::NotEc)
    }

    /// The uncompressed SEC1 point: 0x04, x, y.
    #[must_use]
    pub fn sec1_point(&self) -> &[u8] {
        &self.point
    }

    /// The SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// [`KeyError::NotEc`] if the library cannot encode the point, which it has read before.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let curve: &'static EcdsaVerificationAlgorithm = match self.point.len() {
            65 => &ECDSA_P256_SHA256_FIXED,
            97 => &ECDSA_P384_SHA384_FIXED,
            _ => &ECDSA_P521_SHA512_FIXED,
        };
        let key = ParsedPublicKey::new(curve, &self.point).map_err(|_| KeyError::NotEc)?;
        let spki = key.as_der().map_err(|_| KeyError::NotEc)?;
        pem_rfc7468::encode_string("PUBLIC KEY", LineEnding::LF, spki.as_ref()).map_err(|_| KeyError::NotEc)
    }

    /// The name of the curve.
    #[must_use]
    pub fn curve(&self) -> &'static str {
        match self.point.len() {
            65 => "P-256",
            97 => "P-384",
            _ => "P-521",
        }
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({} {})", self.curve(), hex::encode(&self.point))
    }
}
