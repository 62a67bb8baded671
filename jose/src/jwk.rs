use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::BoxedUint;
use rsa::traits::PublicKeyParts as _;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// Longest JWK text read, in bytes. Public keys here need about 800; without the bound the members that are to be
/// ignored would be walked at whatever length the sender chose.
const MAX_JWK_LEN: usize = 4096;
/// RSA moduli in bits. Shorter ones are weak; without the upper bound a sender chooses how long an encryption takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// An elliptic curve of RFC 7518 section 6.2.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Curve {
    /// NIST P-256 (secp256r1).
    #[serde(rename = "P-256")]
    P256,
    /// NIST P-384 (secp384r1).
    #[serde(rename = "P-384")]
    P384,
    /// NIST P-521 (secp521r1).
    #[serde(rename = "P-521")]
    P521,
}

impl Curve {
    /// The name that the `crv` member carries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length of one coordinate, in bytes.
    const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    P521(p521::PublicKey),
    Rsa(Box<rsa::PublicKey>),
}

/// A public key: EC (RFC 7518 section 6.2.1), or RSA of 2048 to 4096 bits (section 6.3.1). A value of this type is
/// always usable: a point of its curve, a modulus and exponent within bounds.
///
/// Other members of the JSON object are ignored (RFC 7517 section 4), except a private key, which is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Members", into = "Members")]
pub struct Jwk(pub(crate) Key);

/// The members that RFC 7638 hashes, in its order.
#[derive(Default, Serialize, Deserialize)]
struct Members {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<Curve>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(default, skip_serializing)]
    d: Option<IgnoredAny>,
}

impl Jwk {
    /// Reads a JWK from its JSON text.
    ///
    /// # Errors
    /// If the text is too long, not a JWK, not of a supported curve or size, or not a point of that curve.
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
            Curve::P256 => Key::P256(p256::PublicKey::from_sec1_bytes(bytes).map_err(off_curve)?),
            Curve::P384 => Key::P384(p384::PublicKey::from_sec1_bytes(bytes).map_err(off_curve)?),
            Curve::P521 => Key::P521(p521::PublicKey::from_sec1_bytes(bytes).map_err(off_curve)?),
        }))
    }

    /// Takes an RSA public key: modulus and exponent, big-endian.
    ///
    /// # Errors
    /// If the modulus has less than 2048 or more than 4096 bits, or the two are no RSA key.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self> {
        let bits = "an RSA key must have a modulus of 2048 to 4096 bits and an odd exponent below 2^33";
        // Checked before a number is made of it, so that a long string costs nothing.
        if modulus.len() > RSA_BITS.end().div_ceil(8) || exponent.len() > 8 {
            return Err(Error::Key(bits));
        }
        let number = BoxedUint::from_be_slice_vartime;
        let key = rsa::PublicKey::new_with_size_limits(number(modulus), number(exponent), RSA_BITS)
            .map_err(|_| Error::Key(bits))?;
        Ok(Self(Key::Rsa(Box::new(key))))
    }

    /// The curve of an EC key.
    #[must_use]
    pub const fn curve(&self) -> Option<Curve> {
        match self.0 {
            Key::P256(_) => Some(Curve::P256),
            Key::P384(_) => Some(Curve::P384),
            Key::P521(_) => Some(Curve::P521),
            Key::Rsa(_) => None,
        }
    }

    /// What kind of key it is, for messages: the name of the curve, or `RSA`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.curve().map_or("RSA", Curve::name)
    }

    /// SHA-256 thumbprint (RFC 7638 section 3): what the evidence's challenge carries.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        let Members { crv, e, kty, n, x, y, .. } = Members::from(self.clone());
        // The members in lexicographic order without white space; none of the values needs escaping.
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Sha256::digest(match crv {
            Some(crv) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{}","y":"{}"}}"#, text(&x), text(&y)),
            None => format!(r#"{{"e":"{}","kty":"{kty}","n":"{}"}}"#, text(&e), text(&n)),
        })
        .into()
    }
}

impl From<Jwk> for Members {
    fn from(jwk: Jwk) -> Self {
        let sec1 = match &jwk.0 {
            Key::P256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Key::P384(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Key::P521(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Key::Rsa(key) => {
                return Self {
                    kty: "RSA".to_owned(),
                    n: Some(URL_SAFE_NO_PAD.encode(key.n_bytes())),
                    e: Some(URL_SAFE_NO_PAD.encode(key.e_bytes())),
                    ..Self::default()
                };
            }
        };
        let coordinates = sec1.get(1..).unwrap_or_default();
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        Self {
            crv: jwk.curve(),
            kty: "EC".to_owned(),
            x: Some(URL_SAFE_NO_PAD.encode(x)),
            y: Some(URL_SAFE_NO_PAD.encode(y)),
            ..Self::default()
        }
    }
}

impl TryFrom<Members> for Jwk {
    type Error = Error;

    fn try_from(members: Members) -> Result<Self> {
        // Whoever sends a private key has given it away; using it would hide the mistake.
        if members.d.is_some() {
            return Err(Error::Key("member d: a private key was sent where a public key belongs"));
        }
        match members.kty.as_str() {
            "EC" => ec_key(&members),
            "RSA" => rsa_key(&members),
            _ => Err(Error::Key("kty must be \"EC\" or \"RSA\"")),
        }
    }
}

fn ec_key(members: &Members) -> Result<Jwk> {
    let (Some(curve), Some(x), Some(y)) = (members.crv, &members.x, &members.y) else {
        return Err(Error::Key("an EC key has the members crv, x and y"));
    };
    let mut sec1 = vec![0x04];
    for coordinate in [x, y] {
        // Checked before decoding, so that a long string costs nothing.
        if coordinate.len() != (curve.coordinate_len() * 4).div_ceil(3) {
            return Err(Error::Key("x and y must have the full length of a coordinate of the curve"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(coordinate)
            .map_err(|_| Error::Key("x and y must be base64url without padding"))?;
        sec1.extend_from_slice(&bytes);
    }
    Jwk::from_sec1(curve, &sec1)
}

fn rsa_key(members: &Members) -> Result<Jwk> {
    let (Some(n), Some(e)) = (&members.n, &members.e) else {
        return Err(Error::Key("an RSA key has the members n and e"));
    };
    let decode = |text: &str| {
        URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Key("n and e must be base64url without padding"))
    };
    Jwk::from_rsa(&decode(n)?, &decode(e)?)
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

    // RFC 7638 section 3.1, with its thumbprint.
    const RSA: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;

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
        assert_eq!(thumbprint(RSA), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
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
        assert!(refusal(&RFC7517.replace("\"EC\"", "\"oct\"")).contains("kty"));
        assert!(refusal(&RFC7517.replace("\"EC\"", "\"RSA\"")).contains("n and e"));
        assert!(refusal(&RFC7517.replace("\"use\":\"enc\"", "\"d\":\"AAAA\"")).contains("private key"));
    }

    #[test]
    fn takes_rsa_keys_of_a_sound_size_only() {
        let key = |bits: usize, exponent: &[u8]| {
            let mut modulus = vec![0xff; bits / 8];
            modulus[0] = 0x80;
            Jwk::from_rsa(&modulus, exponent)
        };
        for bits in [2048, 3072, 4096] {
            assert_eq!(key(bits, &[1, 0, 1]).unwrap().kind(), "RSA");
        }
        for bits in [512, 1024, 2040, 4104, 1 << 16] {
            assert!(key(bits, &[1, 0, 1]).is_err(), "{bits}");
        }
        for exponent in [&[][..], &[0], &[1], &[4], &[2; 5], &[1; 9]] {
            assert!(key(2048, exponent).is_err(), "{exponent:?}");
        }
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
