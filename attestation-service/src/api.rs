//! The documents of the admin plane, shared by the service and its client. Byte strings are hexadecimal.

use evidence::hash::Digest;
use serde::{Deserialize, Serialize};
use verifier::logs::LogReferences;
use verifier::{Exception, Rules};

use crate::names::{Name, PolicyName};
use crate::token::Algorithm;

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
    /// What may be in the logs; absent if no log is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogReferences>,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
    /// When it ends to be valid, seconds since the Unix epoch; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// One of secGear's reference values: `GET|POST /named-references`, `DELETE /named-references/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedReferenceDocument {
    /// The name of the claim, as in a token's `tcb_status`; a name may have many values.
    pub name: Name,
    /// A value that the claim may have.
    pub value: serde_json::Value,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
    /// When it ends to be valid, seconds since the Unix epoch; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// Authorities that certify devices: `GET|POST /trust-bundles`, `DELETE /trust-bundles/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundleDocument {
    /// Its name.
    pub name: Name,
    /// Certificates in PEM.
    pub pem: String,
    /// Where they came from.
    #[serde(default)]
    pub source: String,
    /// When they were registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
}

/// A certificate revocation list: `GET|POST /crls` (replaces one of this name), `DELETE /crls/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrlDocument {
    /// Its name.
    pub name: Name,
    /// The list in PEM; absent when listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// SHA-256 of the list in DER; set by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
}

/// An appraisal policy: `GET|POST|PUT /policies` (PUT replaces one of this id), `GET` (all its versions) and `DELETE
/// /policies/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Its name; `default_cca.rego` applies to every appraisal.
    pub id: Name,
    /// The Rego text: package attestation, rule output.
    pub rego: String,
    /// 1 for the first text of this id, 0 if built in; set by the service.
    #[serde(default)]
    pub version: i64,
    /// SHA-256 of the Rego text, in hexadecimal, as tokens name it; set by the service.
    #[serde(default)]
    pub sha256: String,
    /// Typed rules; absent ones are the strict ones.
    #[serde(default)]
    pub rules: Rules,
    /// What it allows for named trust anchors beyond the built-in rules.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
    /// When it was registered, seconds since the Unix epoch; set by the service, 0 if built in.
    #[serde(default)]
    pub added_at: i64,
}

/// A resource policy: `GET|POST /resource-policies` (replaces one of this name), `DELETE
/// /resource-policies/{vendor}/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcePolicyDocument {
    /// vendor/id.rego.
    pub name: PolicyName,
    /// The Rego text: package vendor.id, rule allow; its input is a token's claims, `data.resource` the resource's name.
    pub rego: String,
    /// 1 for the first text of this name, 0 if built in; set by the service.
    #[serde(default)]
    pub version: i64,
    /// SHA-256 of the Rego text, in hexadecimal; set by the service.
    #[serde(default)]
    pub sha256: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
}

/// A resource to add (`POST /resources`) or to give new content (`PUT /resources`).
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewResourceDocument {
    /// vendor/path.
    pub name: String,
    /// The content in standard base64.
    pub content: String,
    /// Policies to bind beside those that are bound: all must allow a release, and without any there is none.
    #[serde(default)]
    pub policies: Vec<PolicyName>,
}

/// A resource as listed: `GET /resources`, `DELETE /resources/{vendor}/{path}`. The content is never listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceDocument {
    /// vendor/path.
    pub name: String,
    /// 1 for its first content.
    pub version: i64,
    /// Length of the content in bytes.
    pub size: i64,
    /// The policies that are bound to it.
    pub policies: Vec<PolicyName>,
    /// When the content was registered, seconds since the Unix epoch.
    pub added_at: i64,
}

/// A policy and a resource: `POST|DELETE /bindings`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingDocument {
    /// vendor/path.
    pub resource: String,
    /// vendor/id.rego.
    pub policy: PolicyName,
}

/// A key that signs tokens, as listed: `GET /signing-keys`, `DELETE /signing-keys/{kid}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SigningKeyDocument {
    /// Its name in tokens.
    pub kid: String,
    /// `ES384` or `PS256`.
    pub algorithm: String,
    /// From when on it signs, seconds since the Unix epoch.
    pub activates_at: i64,
}

/// A key to make: `POST /signing-keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSigningKeyDocument {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// In how many seconds it signs; relying parties that keep the key set for a while need some.
    #[serde(default)]
    pub activates_in: u32,
}

/// An entry of the audit log: `GET /audit?after=SEQ&limit=COUNT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditDocument {
    /// Its place in the log.
    pub seq: i64,
    /// When, seconds since the Unix epoch.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What they did.
    pub action: String,
    /// To what.
    pub object: String,
    /// SHA-256 of the content, in hexadecimal, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `ok`, or the machine code of the refusal.
    pub result: String,
}
