//! The Realm attestation key (RAK), in the two encodings that tokens use.

use std::fmt;

use ciborium::Value;
use coset::iana::{self, EnumI64};
use coset::{CborSerializable, CoseKey, CoseKeyBuilder, KeyType, Label};
use thiserror::Error;

use crate::cbor::{self, CborError};

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

    fn cose(self) -> iana::EllipticCurve {
        match self {
            Self::P256 => iana::EllipticCurve::P_256,
            Self::P384 => iana::EllipticCurve::P_384,
            Self::P521 => iana::EllipticCurve::P_521,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        })
    }
}

/// Bytes that are not a public key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Not an uncompressed point of the curve's size.
    #[error("an uncompressed {curve} point has {} bytes, the first one 0x04; found {found} bytes", 1 + 2 * .curve.coordinate_len())]
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
}

/// A Realm attestation key as a token carries it. That the point lies on the curve is left to the verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmKey {
    claim: Vec<u8>,
    curve: Curve,
    point: Vec<u8>,
}

impl RealmKey {
    /// A key as a COSE_Key, from an uncompressed SEC1 point.
    ///
    /// # Errors
    ///
    /// A point that is not of the curve's size.
    #[expect(clippy::expect_used, reason = "the key was built here, and memory takes every write")]
    pub fn cose(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        let (x, y) = coordinates(curve, point)?;
        let key = CoseKeyBuilder::new_ec2_pub_key(curve.cose(), x.to_vec(), y.to_vec()).build();
        let claim = key.to_vec().expect("a COSE_Key that was built is serialisable");
        Ok(Self { claim, curve, point: point.to_vec() })
    }

    /// A P-384 key as a COSE_Key, as today's monitors make it.
    ///
    /// # Errors
    ///
    /// A point that is not an uncompressed one of 97 bytes.
    pub fn cose_p384(point: &[u8]) -> Result<Self, KeyError> {
        Self::cose(Curve::P384, point)
    }

    /// A P-384 key as the bare point, for tokens without a Realm profile.
    ///
    /// # Errors
    ///
    /// A point that is not an uncompressed one of 97 bytes.
    pub fn raw_p384(point: &[u8]) -> Result<Self, KeyError> {
        coordinates(Curve::P384, point)?;
        Ok(Self { claim: point.to_vec(), curve: Curve::P384, point: point.to_vec() })
    }

    /// A key from the claim of a token with a Realm profile.
    pub(super) fn decode_cose(claim: Vec<u8>) -> Result<Self, KeyError> {
        const CURVE: Label = Label::Int(iana::Ec2KeyParameter::Crv as i64);
        const X: Label = Label::Int(iana::Ec2KeyParameter::X as i64);
        const Y: Label = Label::Int(iana::Ec2KeyParameter::Y as i64);
        const D: Label = Label::Int(iana::Ec2KeyParameter::D as i64);

        cbor::read(&claim)?;
        let key = CoseKey::from_slice(&claim).map_err(KeyError::Cose)?;
        if key.kty != KeyType::Assigned(iana::KeyType::EC2) {
            return Err(KeyError::KeyType);
        }
        let find =
            |label: &Label| key.params.iter().find(|(found, _)| found == label).map(|(_, value)| value);
        if find(&D).is_some() {
            return Err(KeyError::Private);
        }
        let curve = [Curve::P256, Curve::P384, Curve::P521]
            .into_iter()
            .find(|curve| find(&CURVE) == Some(&Value::from(curve.cose().to_i64())))
            .ok_or(KeyError::Curve)?;
        let coordinate = |label: &Label, name| {
            find(label)
                .and_then(Value::as_bytes)
                .filter(|bytes| bytes.len() == curve.coordinate_len())
                .ok_or(KeyError::Coordinate { name, curve })
        };
        let mut point = vec![0x04];
        point.extend(coordinate(&X, "x")?);
        point.extend(coordinate(&Y, "y")?);
        Ok(Self { claim, curve, point })
    }

    /// The bytes of the claim, whose hash is the platform token's nonce.
    pub fn claim_bytes(&self) -> &[u8] {
        &self.claim
    }

    /// The key's curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The uncompressed SEC1 point: 0x04, x, y.
    pub fn sec1_point(&self) -> &[u8] {
        &self.point
    }
}

fn coordinates(curve: Curve, point: &[u8]) -> Result<(&[u8], &[u8]), KeyError> {
    let len = curve.coordinate_len();
    match point.split_first() {
        Some((0x04, coordinates)) if coordinates.len() == 2 * len => Ok(coordinates.split_at(len)),
        _ => Err(KeyError::Point { curve, found: point.len() }),
    }
}
