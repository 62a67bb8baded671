//! What tenants and operators register.

use std::collections::BTreeSet;
use std::fmt;

use evidence::hash::Digest;
use serde::{Deserialize, Serialize};
use service_kit::vault::Sealed;
use utoipa::ToSchema;
use verifier::logs::{BootReferences, ImaReferences, LogReferences};
use verifier::{HexBytes, Rules};

use crate::health::Health;
use crate::store::{Kind, Registered};

/// Somebody whose machines are attested, apart from everybody else's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// When it was added, seconds since the Unix epoch.
    pub created_at: i64,
}

/// What a caller may do. Everybody may verify tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything that the tenant may.
    Admin,
    /// Look at everything.
    Auditor,
    /// Enrol a machine and attest it.
    Agent,
    /// Take nonces and have evidence appraised that machines hand over.
    RelyingParty,
}

/// A key with which people and machines of a tenant authenticate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiKey {
    /// What its holder may do.
    pub role: Role,
    /// SHA-256 of the key, in hexadecimal. The key is random, so that nobody finds it by trying.
    pub digest: String,
}

/// What somebody may do whom an issuer of tokens or a certificate names. Who that is, the id says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// What they may do.
    pub role: Role,
    /// When it was added, seconds since the Unix epoch.
    pub created_at: i64,
}

/// What an attester's evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttesterType {
    /// A quote of a TPM and the log of measured boot.
    TpmBoot,
    /// A quote of a TPM and the log of IMA.
    TpmIma,
    /// A token of a virtCCA machine, and its logs.
    VirtCca,
}

impl AttesterType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::TpmBoot, Self::TpmIma, Self::VirtCca];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpmBoot => "tpm_boot",
            Self::TpmIma => "tpm_ima",
            Self::VirtCca => "virt_cca",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a TPM makes the evidence.
    #[must_use]
    pub const fn is_of_tpm(self) -> bool {
        matches!(self, Self::TpmBoot | Self::TpmIma)
    }
}

impl fmt::Display for AttesterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an attestation key is believed to be in the node's TPM.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Provenance {
    /// The TPM has opened a credential that was made for its certified endorsement key.
    Activated {
        /// SHA-256 of the endorsement key's certificate.
        endorsement: String,
        /// The manufacturer's root.
        root: String,
    },
    /// Another key of the TPM says so, which the maker of the machine has certified.
    Certified {
        /// SHA-256 of the initial attestation key's certificate.
        initial: String,
        /// The maker's root.
        root: String,
    },
    /// An administrator of the tenant has said so.
    Pinned,
}

/// A machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// The public area of its attestation key, `TPMT_PUBLIC` in base64.
    pub attestation_key: String,
    /// Why that key is believed.
    pub provenance: Provenance,
    /// When it was enrolled, seconds since the Unix epoch.
    pub enrolled_at: i64,
}

/// A policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// The tenant's words about it.
    pub description: String,
    /// What evidence it is for.
    pub attester_type: Vec<AttesterType>,
    /// The Rego text: package `verification`, rule `result`.
    pub rego: String,
    /// What is demanded of virtCCA platforms and logs before Rego is asked; absent demands what is strict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
    /// Whether it applies to all evidence of its types.
    pub is_default: bool,
    /// When it was changed last, milliseconds since the Unix epoch.
    pub update_time: i64,
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertType {
    /// Its holder signs reference values.
    Refvalue,
    /// Its holder signs policies.
    Policy,
    /// It certifies attestation keys of machines whose boot is attested.
    TpmBoot,
    /// It certifies attestation keys of machines whose files are attested.
    TpmIma,
    /// It certifies endorsement keys.
    TpmEk,
    /// It certifies initial attestation keys, which makers put into machines (IDevID and IAK).
    TpmIak,
    /// It certifies virtCCA devices.
    VirtCca,
}

/// A certificate, or a bundle of those of authorities.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The tenant's words about it.
    pub description: String,
    /// What it is good for.
    #[serde(rename = "type")]
    pub kinds: Vec<CertType>,
    /// In PEM.
    pub pem: String,
    /// When it was added, milliseconds since the Unix epoch.
    pub create_time: i64,
}

/// A certificate revocation list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Crl {
    /// In PEM.
    pub pem: String,
}

/// What is known: files, each at its path; a boot; or machines by what was measured at their launch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefValue {
    /// The tenant's words about them.
    pub description: String,
    /// What evidence they are for.
    pub attester_type: AttesterType,
    /// The signed content, as it was sent.
    pub jwt: String,
    /// Files that may be used; those of a set with realms, in these.
    pub files: Vec<KnownFile>,
    /// What else is known of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ima: Option<ImaReferences>,
    /// What may have been booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootReferences>,
    /// virtCCA machines that may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub realms: Vec<KnownRealm>,
}

/// A virtCCA machine by its measurements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownRealm {
    /// What it is called.
    pub name: String,
    /// Its initial measurement.
    pub rim: Digest,
    /// Its personalisation value, 64 bytes; absent accepts any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpv: Option<HexBytes>,
    /// Its extensible measurements; null accepts any that a log explains.
    #[serde(default)]
    pub rems: [Option<Digest>; 4],
    /// What may be in its logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogReferences>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    /// Its path.
    #[serde(rename = "fileName")]
    pub path: String,
    /// Its digest in hexadecimal.
    pub sha256: String,
}

/// Where a tenant wants to be told of changes of how its nodes are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Webhook {
    /// The tenant's words about it.
    pub description: String,
    /// Where to.
    pub url: String,
    /// Of which changes, by how the node is after it.
    pub events: BTreeSet<Health>,
    /// Authorities that certify the receiver, in PEM; absent means those that browsers know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// What the receiver knows messages by.
    #[serde(with = "sealed")]
    pub secret: Sealed,
    /// When it was changed last, milliseconds since the Unix epoch.
    pub update_time: i64,
}

impl Webhook {
    /// What its secret is sealed as.
    pub(crate) fn context(tenant: &str, id: &str) -> String {
        format!("gta webhook {tenant}/{id}")
    }
}

/// Sealed secrets in documents.
mod sealed {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use service_kit::vault::Sealed;
    use verifier::HexBytes;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Body {
        content: HexBytes,
        wrapped_key: HexBytes,
        master_key: String,
    }

    pub fn serialize<S: Serializer>(sealed: &Sealed, serializer: S) -> Result<S::Ok, S::Error> {
        let Sealed { content, wrapped_key, master_key } = sealed.clone();
        Body { content: HexBytes(content), wrapped_key: HexBytes(wrapped_key), master_key }
            .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sealed, D::Error> {
        let Body { content, wrapped_key, master_key } = Body::deserialize(deserializer)?;
        Ok(Sealed { content: content.0, wrapped_key: wrapped_key.0, master_key })
    }
}

macro_rules! registered {
    ($($type:ty => $kind:ident),* $(,)?) => {
        $(impl Registered for $type {
            const KIND: Kind = Kind::$kind;
        })*
    };
}

registered! {
    Tenant => Tenant,
    ApiKey => ApiKey,
    Identity => Identity,
    Node => Node,
    Policy => Policy,
    Certificate => Certificate,
    Crl => Crl,
    RefValue => RefValue,
    Webhook => Webhook,
}
