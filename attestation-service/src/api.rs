//! The documents of the admin plane, shared by the service and its client. Byte strings are hexadecimal.

use evidence::hash::Digest;
use serde::{Deserialize, Serialize};
use verifier::corim::{ComponentEndorsement, MaskedValue};
use verifier::logs::LogReferences;
use verifier::{Exception, HexBytes, Rules};

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

/// Optional bytes as hexadecimal text.
mod optional_hex_bytes {
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    #[derive(serde::Serialize, Deserialize)]
    struct Hex<const N: usize>(#[serde(with = "super::hex_bytes")] [u8; N]);

    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.map(Hex).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        Ok(Option::<Hex<N>>::deserialize(deserializer)?.map(|hex| hex.0))
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
    /// When it ends to be believed, seconds since the Unix epoch; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
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
    #[serde(default, with = "optional_hex_bytes")]
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

/// Expected software and configuration of CCA platforms: `GET|POST /platform-references`, `DELETE
/// /platform-references/{name}`. A platform that some are about must match one of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformReferenceDocument {
    /// Its name.
    pub name: Name,
    /// Implementation id of the platforms that it is about, 32 bytes.
    #[serde(with = "hex_bytes")]
    pub implementation_id: [u8; 32],
    /// Instance id of the one platform that it is about, 33 bytes; absent for every one of the implementation.
    #[serde(default, with = "optional_hex_bytes", skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<[u8; 33]>,
    /// The software components that a platform may have, and of each type one that it must have.
    pub components: Vec<ExpectedComponent>,
    /// The configuration.
    pub config: ExpectedConfig,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
    /// When it ends to be valid, seconds since the Unix epoch; absent if never. Platforms that it is about then match
    /// nothing, until another is registered or it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// One form of a software component.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedComponent {
    /// Its type, such as `BL2`; absent for any.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its version; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its digest, by one algorithm or by several.
    pub measurements: Vec<Digest>,
    /// Hash of the key that signed it.
    pub signer_id: Digest,
}

/// A configuration of which only the bits of a mask count.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedConfig {
    /// The bytes.
    pub value: HexBytes,
    /// As many bytes; a set bit means that it must agree.
    pub mask: HexBytes,
}

impl From<ExpectedComponent> for ComponentEndorsement {
    fn from(component: ExpectedComponent) -> Self {
        let ExpectedComponent { kind, version, measurements, signer_id } = component;
        Self { component_type: kind, version, measurements, signer_id }
    }
}

impl From<ComponentEndorsement> for ExpectedComponent {
    fn from(component: ComponentEndorsement) -> Self {
        let ComponentEndorsement { component_type, version, measurements, signer_id } = component;
        Self { kind: component_type, version, measurements, signer_id }
    }
}

impl From<ExpectedConfig> for MaskedValue {
    fn from(config: ExpectedConfig) -> Self {
        Self { value: config.value.0, mask: config.mask.0 }
    }
}

impl From<MaskedValue> for ExpectedConfig {
    fn from(config: MaskedValue) -> Self {
        Self { value: HexBytes(config.value), mask: HexBytes(config.mask) }
    }
}

/// A key whose signature on CoRIM documents is believed: `GET|POST /corim-signers`, `DELETE /corim-signers/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorimSignerDocument {
    /// Its name; it becomes part of the provenance of what it signed.
    pub name: Name,
    /// The public key: PEM (`PUBLIC KEY`) to add; an uncompressed point in hexadecimal when listed.
    pub public_key: String,
    /// What it is believed about.
    pub endorses: Vec<Endorsed>,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// When it was registered, seconds since the Unix epoch; set by the service.
    #[serde(default)]
    pub added_at: i64,
}

/// What a CoRIM document can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Endorsed {
    /// Measurements of Realms, which their builders know.
    Realms,
    /// Software and configuration of platforms, which their vendors know.
    Platforms,
    /// Attestation keys of platforms, which their manufacturers know.
    Keys,
}

impl Endorsed {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realms => "realms",
            Self::Platforms => "platforms",
            Self::Keys => "keys",
        }
    }
}

/// The query of `POST /corim`, whose body is a document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorimImport {
    /// What is registered gets this name, with a number behind it if there are several of a kind.
    pub name: Name,
    /// The operator vouches for a document that nobody has signed; only an admin may.
    #[serde(default)]
    pub unsigned: bool,
    /// Keys in the document are development keys, which only policies that name them accept.
    #[serde(default)]
    pub development: bool,
    /// A note on where it came from.
    #[serde(default)]
    pub source: String,
}

/// What was registered from a document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CorimImported {
    /// The document's own identifier.
    pub id: String,
    /// Who signed it; absent if nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// When all of it ends to be valid, seconds since the Unix epoch; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Names of reference values of Realms.
    pub references: Vec<Name>,
    /// Names of reference values of platforms.
    pub platform_references: Vec<Name>,
    /// Names of trust anchors.
    pub trust_anchors: Vec<Name>,
}

/// The query of `GET /corim/realms` and `GET /corim/platforms`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorimExport {
    /// The document's identifier.
    pub id: String,
    /// Who makes it.
    pub creator: String,
    /// The last second of its validity, since the Unix epoch. It is never valid for longer than what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<i64>,
    /// Only what has one of these names, with commas between them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub names: String,
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
