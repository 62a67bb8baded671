//! Kinds of keys that sign tokens.

use std::fmt;

use coset::iana;
use thiserror::Error;

use crate::cbor::CborError;

/// An elliptic curve of NIST SP 800-186.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521.
    P521,
}

impl Curve {
    /// Bytes in a coordinate.
    pub fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// Bytes in an uncompressed SEC1 point: 0x04, x, y.
    pub fn point_len(self) -> usize {
        1 + 2 * self.coordinate_len()
    }

    /// The curve's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    pub(crate) fn cose(self) -> iana::EllipticCurve {
        match self {
            Self::P256 => iana::EllipticCurve::P_256,
            Self::P384 => iana::EllipticCurve::P_384,
            Self::P521 => iana::EllipticCurve::P_521,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that are not a public key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Not an uncompressed point of the curve's size.
    #[error("an uncompressed {curve} point has {} bytes, the first one 0x04; found {found} bytes", .curve.point_len())]
    Point {
        /// The curve.
        curve: Curve,
        /// Bytes found.
        found: usize,
    },
    /// Not CBOR.
    #[error("the COSE_Key is not valid CBOR")]
    Cbor(#[from] CborError),
    /// CBOR, but not a COSE_Key.
    #[error("the COSE_Key breaks the rules of RFC 9052")]
    Cose(#[source] coset::CoseError),
    /// Not an elliptic-curve key with two coordinates.
    #[error("the COSE_Key must be of type EC2")]
    KeyType,
    /// Not one of the curves.
    #[error("the COSE_Key must name the curve P-256, P-384 or P-521")]
    Curve,
    /// A coordinate that is not there, compressed, or of the wrong size.
    #[error("coordinate {name} of the COSE_Key must be a byte string of {} bytes", .curve.coordinate_len())]
    Coordinate {
        /// `x` or `y`.
        name: &'static str,
        /// The curve.
        curve: Curve,
    },
    /// The key contains its secret half.
    #[error("the COSE_Key contains a private key; it is no secret any more, and must not be used")]
    Private,
    /// Neither of the two forms of a virtCCA key.
    #[error(
        "a virtCCA key is an uncompressed P-521 point (133 bytes, the first one 0x04) or the \
         SubjectPublicKeyInfo of an RSA-4096 key (550 bytes, the first one 0x30); found {found} bytes"
    )]
    Virtcca {
        /// Bytes found.
        found: usize,
    },
}
