use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// Longest JWK text read, in bytes. Public keys here need about 200; without the bound the members that are to be
/// ignored would be walked at whatever length the sender chose.
const MAX_JWK_LEN: usize = 4096;

/// An elliptic curve of RFC 7518 section 6.2.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Curve {
    /// NIST P-256 (secp256r1).
    #[serde(rename = "P-256")]
    P256,
    /// NIST P-384 (secp384r1).
    #[serde(rename = "P-384")]
    P384,
}

impl Curve {
    /// The name that the `crv` member carries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// Length of one coordinate, in bytes.
    const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Point {
    P256(p256::PublicKey),
    P384(p384::PublicKey),
}

/// An EC public key (RFC 7517, RFC 7518 section 6.2.1). A value of this type is always a point of its curve.
///
/// Other members of the JSON object are ignored (RFC 7517 section 4), except a private key, which is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Members", into = "Members")]
pub struct Jwk(pub(crate) Point);

#[derive(Serialize, Deserialize)]
struct Members {
    crv: Curve,
    kty: String,
    x: String,
    y: String,
    #[serde(default, skip_serializing)]
    d: Option<IgnoredAny>,
}

impl Jwk {
    /// Reads a JWK from its JSON text.
    ///
    /// # Errors
    /// If the text is too long, not a JWK, not of a supported curve, or not a point of that curve.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        if text.len() > MAX_JWK_LEN {
            return Err(Error::TooLong { what: "the JWK", found: text.len(), limit: MAX_JWK_LEN });
        }
        serde_json::from_slice(text).map_err(Error::KeyJson)
    }

    /// Reads a public key from an uncompressed point, `04 || x || y` (SEC 1 section 2.3.4).
    ///
    /// # Errors
    /// If the bytes are of another form or not a point of the curve.
    pub fn from_sec1(curve: Curve, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != 1 + 2 * curve.coordinate_len() {
            return Err(Error::Key(
                "a point must be uncompressed: 04 || x || y with coordinates of full length",
            ));
        }
        let off_curve = |_| Error::Key("x and y are not a point of the curve that crv names");
        Ok(Self(match curve {
            Curve::P256 => Point::P256(p256::PublicKey::from_sec1_bytes(bytes).map_err(off_curve)?),
            Curve::P384 => Point::P384(p384::PublicKey::from_sec1_bytes(bytes).map_err(off_curve)?),
        }))
    }

    /// The key's curve.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self.0 {
            Point::P256(_) => Curve::P256,
            Point::P384(_) => Curve::P384,
        }
    }

    /// SHA-256 thumbprint (RFC 7638 section 3): what the evidence's challenge carries.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        let Members { crv, kty, x, y, .. } = Members::from(self.clone());
        // The members in lexicographic order without white space; none of the values needs escaping.
        Sha256::digest(format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#)).into()
    }
}

impl From<Jwk> for Members {
    fn from(jwk: Jwk) -> Self {
        let sec1 = match &jwk.0 {
            Point::P256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Point::P384(key) => key.to_sec1_point(false).as_bytes().to_vec(),
        };
        let coordinates = sec1.get(1..).unwrap_or_default();
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        Self {
            crv: jwk.curve(),
            kty: "EC".to_owned(),
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
            d: None,
        }
    }
}

impl TryFrom<Members> for Jwk {
    type Error = Error;

    fn try_from(members: Members) -> Result<Self> {
        if members.kty != "EC" {
            return Err(Error::Key("kty must be \"EC\""));
        }
        // Whoever sends a private key has given it away; using it would hide the mistake.
        if members.d.is_some() {
            return Err(Error::Key("member d: a private key was sent where a public key belongs"));
        }
        let mut sec1 = vec![0x04];
        for coordinate in [&members.x, &members.y] {
            // Checked before decoding, so that a long string costs nothing.
            if coordinate.len() != (members.crv.coordinate_len() * 4).div_ceil(3) {
                return Err(Error::Key("x and y must have the full length of a coordinate of the curve"));
            }
            let bytes = URL_SAFE_NO_PAD
                .decode(coordinate)
                .map_err(|_| Error::Key("x and y must be base64url without padding"))?;
            sec1.extend_from_slice(&bytes);
        }
        Self::from_sec1(members.crv, &sec1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7517 appendix A.1; the thumbprint comes from jwcrypto 1.6.1.
    const RFC7517: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}"#;
    // Made by jwcrypto 1.6.1.
    const P384: &str = r#"{"crv":"P-384","kty":"EC",
        "x":"InXPyrZaR_Di_qFnzqlOSnNX1dDSAhOxxhHKVz7dQEHZ5JAJTHiCTCj1yCnb7aqM",
        "y":"pI5Q6YkYdUfXvwi3JxKLtX7qPqMQVCESg3yDdnGE3MCXJ0qBnQ9cPveUcG4dQcT-"}"#;

    fn thumbprint(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(Jwk::from_json(text.as_bytes()).unwrap().thumbprint())
    }

    fn refusal(text: &str) -> String {
        match Jwk::from_json(text.as_bytes()).unwrap_err() {
            Error::KeyJson(e) => e.to_string(),
            other => other.to_string(),
        }
    }

    #[test]
    fn thumbprints_agree_with_another_implementation() {
        assert_eq!(thumbprint(RFC7517), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
        assert_eq!(thumbprint(P384), "IrmjKn1GmjA8XztLqtEBcfVoo4k35BAHqjZz7xdSR88");
    }

    #[test]
    fn writes_exactly_the_required_members() {
        let jwk = Jwk::from_json(RFC7517.as_bytes()).unwrap();
        let text = serde_json::to_string(&jwk).unwrap();
        assert_eq!(
            text,
            r#"{"crv":"P-256","kty":"EC","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#
        );
        assert_eq!(Jwk::from_json(text.as_bytes()).unwrap(), jwk);
        // RFC 7638: the thumbprint is the hash of exactly this text.
        assert_eq!(jwk.thumbprint(), <[u8; 32]>::from(Sha256::digest(&text)));
    }

    #[test]
    fn refuses_a_point_off_the_curve() {
        let off = RFC7517.replace("4Etl6SRW", "5Etl6SRW");
        assert!(refusal(&off).contains("not a point of the curve"), "{}", refusal(&off));
        let zero = format!(r#"{{"kty":"EC","crv":"P-256","x":"{0}","y":"{0}"}}"#, "A".repeat(43));
        assert!(refusal(&zero).contains("not a point of the curve"), "{}", refusal(&zero));
    }

    #[test]
    fn refuses_a_point_labelled_with_another_curve() {
        assert!(refusal(&RFC7517.replace("P-256", "P-384")).contains("full length"));
        assert!(refusal(&P384.replace("P-384", "P-256")).contains("full length"));
        assert!(refusal(&P384.replace("P-384", "secp256k1")).contains("unknown variant"));
    }

    #[test]
    fn refuses_other_key_types_and_private_keys() {
        assert!(refusal(&RFC7517.replace("\"EC\"", "\"RSA\"")).contains("kty"));
        assert!(refusal(&RFC7517.replace("\"use\":\"enc\"", "\"d\":\"AAAA\"")).contains("private key"));
    }

    #[test]
    fn refuses_lax_base64_and_long_text() {
        assert!(refusal(&RFC7517.replace("v7D4\"", "v7D4=\"")).contains("full length"));
        assert!(refusal(&RFC7517.replace("MKBC", "MK+C")).contains("base64url"));
        // 43 characters carry 2 bits more than 32 bytes; they must be zero or one key would have many spellings.
        assert!(refusal(&RFC7517.replace("v7D4\"", "v7D5\"")).contains("base64url"));
        let long = RFC7517.replace("\"1\"", &format!("\"{}\"", "k".repeat(MAX_JWK_LEN)));
        assert!(refusal(&long).contains("limit is 4096"), "{}", refusal(&long));
    }

    #[test]
    fn refuses_a_member_given_twice() {
        assert!(refusal(&RFC7517.replace("\"kid\":\"1\"", "\"crv\":\"P-256\"")).contains("duplicate field"));
    }

    #[test]
    fn refuses_compressed_points_and_the_point_at_infinity() {
        for bytes in [vec![0], vec![2; 33], vec![2; 65], vec![4; 64]] {
            assert!(Jwk::from_sec1(Curve::P256, &bytes).is_err(), "{bytes:02x?}");
        }
    }
}
