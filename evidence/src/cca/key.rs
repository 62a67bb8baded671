//! The Realm attestation key (RAK), in the two encodings that tokens use.

use ciborium::Value;
use coset::iana::{self, EnumI64};
use coset::{CborSerializable, CoseKey, CoseKeyBuilder, KeyType, Label};

use crate::cbor;
use crate::token::{Curve, KeyError};

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
