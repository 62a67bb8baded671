//! Published authorities, pinned by fingerprint.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Serialize, Serializer};

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is not a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fingerprint is SHA-256 of the certificate in DER: 64 hexadecimal digits, colons allowed between them"
)]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads hexadecimal of either case, with or without colons, as openssl prints it.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.replace(':', ""), &mut bytes).map_err(|_| FingerprintError)?;
        Ok(Self(bytes))
    }
}

struct Pin {
    common_name: &'static str,
    sha256: &'static str,
}

/// The authorities of virtCCA devices. Source: the constants of Global Trust Authority's virtCCA verifier.
const PINS: [Pin; 4] = [
    Pin {
        common_name: "Huawei Equipment CA",
        sha256: "da2abe9225d795a380e2899d530ef0318a5b32bc81aafd4488ba961ddf7502d4",
    },
    Pin {
        common_name: "Huawei IT Product CA",
        sha256: "91be99a26258953efc71757164a75550ceec3dfb95ef978be636508d9ccd9afa",
    },
    Pin {
        common_name: "Huawei ECC Attestation Root CA 1",
        sha256: "40ea8ca77eaa1058246aa0ab2190d25cd7ab0860b3d0eae52bb9ff5ed35d79f8",
    },
    Pin {
        common_name: "Huawei Computing ECC CCA CA 1",
        sha256: "f5fdb93e51b6f6da9fc00dfb8c4a84cc7f2d734af1102bd46f92849b83209b67",
    },
];

/// A certificate that claims a published authority's name and is another certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the certificate with the fingerprint {found} claims to be {name:?}, whose fingerprint is {expected}; if it is the \
     vendor's all the same, add its fingerprint to those that the trust bundle accepts"
)]
pub struct PinMismatch {
    /// The published authority.
    pub name: &'static str,
    /// The fingerprint of the published certificate.
    pub expected: &'static str,
    /// The fingerprint that was found.
    pub found: Fingerprint,
}

/// Checks a certificate by the common names of its subject. `accepted` are fingerprints that the operator vouches for.
pub fn check<'a>(
    common_names: impl IntoIterator<Item = &'a str>,
    found: Fingerprint,
    accepted: &BTreeSet<Fingerprint>,
) -> Result<(), PinMismatch> {
    for name in common_names {
        let pin = PINS.iter().find(|pin| name.trim().eq_ignore_ascii_case(pin.common_name));
        if let Some(pin) = pin
            && found.to_string() != pin.sha256
            && !accepted.contains(&found)
        {
            return Err(PinMismatch { name: pin.common_name, expected: pin.sha256, found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_name_needs_the_published_fingerprint_or_the_operators_word() {
        let none = BTreeSet::new();
        for pin in &PINS {
            let published = pin.sha256.to_uppercase().parse().unwrap();
            let other = Fingerprint::of(b"other");
            assert_eq!(check([pin.common_name], published, &none), Ok(()));
            for name in [pin.common_name.to_owned(), format!(" {} ", pin.common_name.to_uppercase())] {
                assert_eq!(check(["Device", &name], other, &none).unwrap_err().found, other);
            }
            assert_eq!(check([pin.common_name], other, &BTreeSet::from([other])), Ok(()));
        }
        assert_eq!(check(["Another CA"], Fingerprint::of(b""), &none), Ok(()));
    }

    #[test]
    fn fingerprints_are_read_as_openssl_prints_them() {
        let text =
            "E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";
        assert_eq!(text.parse(), Ok(Fingerprint::of(b"")));
        for bad in ["", "e3b0", &text[3..], &format!("{text}:00")] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError));
        }
    }
}
