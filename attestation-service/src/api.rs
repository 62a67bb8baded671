//! The documents of the admin plane, shared by the service and its client. Byte strings are hexadecimal.

use evidence::hash::Digest;
use serde::{Deserialize, Serialize};
use verifier::Exception;

use crate::names::Name;

/// Bytes as lower-case hexadecimal text.
pub mod hex_bytes {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes hexadecimal.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    /// Reads exactly `N` bytes of hexadecimal.
    ///
    /// # Errors
    /// If the text is not hexadecimal or has another length.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| D::Error::custom(format!("expected {N} bytes in hexadecimal")))?;
        Ok(bytes)
    }
}

/// An optional 64-byte value as hexadecimal text.
mod optional_rpv {
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    #[derive(serde::Serialize, Deserialize)]
    struct Rpv(#[serde(with = "super::hex_bytes")] [u8; 64]);

    pub fn serialize<S: Serializer>(rpv: &Option<[u8; 64]>, serializer: S) -> Result<S::Ok, S::Error> {
        rpv.map(Rpv).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 64]>, D::Error> {
        Ok(Option::<Rpv>::deserialize(deserializer)?.map(|rpv| rpv.0))
    }
}

/// A trust anchor: `GET|POST /trust-anchors`, `DELETE /trust-anchors/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustAnchorDocument {
    /// Its name; policies' exceptions refer to it.
    pub name: Name,
    /// Implementation id of the platform, 32 bytes.
    #[serde(with = "hex_bytes")]
    pub implementation_id: [u8; 32],
    /// Instance id of the platform, 33 bytes.
    #[serde(with = "hex_bytes")]
    pub instance_id: [u8; 33],
    /// The public key: PEM (`PUBLIC KEY`) to add; an uncompressed point in hexadecimal when listed.
    pub public_key: String,
    /// Whether it is a development key.
    #[serde(default)]
    pub development: bool,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
}

/// A reference value: `GET|POST /references`, `DELETE /references/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceDocument {
    /// Its name.
    pub name: Name,
    /// Realm Initial Measurement.
    pub rim: Digest,
    /// Realm Personalisation Value, 64 bytes; absent accepts any.
    #[serde(default, with = "optional_rpv")]
    pub rpv: Option<[u8; 64]>,
    /// Realm Extensible Measurements; null accepts any.
    #[serde(default)]
    pub rems: [Option<Digest>; 4],
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
}

/// An appraisal policy: `GET|POST /policies`, `DELETE /policies/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Its name; `default_cca.rego` applies to every appraisal.
    pub id: Name,
    /// The Rego text: package attestation, rule output.
    pub rego: String,
    /// What it allows for named trust anchors beyond the built-in rules.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
    /// When it was registered, seconds since the Unix epoch; set by the service, 0 if built in.
    #[serde(default)]
    pub added_at: i64,
}

/// A resource to add: `POST /resources`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewResourceDocument {
    /// vendor/path.
    pub name: String,
    /// The content in standard base64.
    pub content: String,
}

/// A resource as listed: `GET /resources`, `DELETE /resources/{vendor}/{path}`. The content is never listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceDocument {
    /// vendor/path.
    pub name: String,
    /// Length of the content in bytes.
    pub size: i64,
    /// When it was registered, seconds since the Unix epoch.
    pub added_at: i64,
}
