//! What tenants and operators register.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::store::{Kind, Registered};

/// Somebody whose machines are attested, apart from everybody else's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// When it was added, seconds since the Unix epoch.
    pub created_at: i64,
}

/// What the holder of a key may do. Everybody may verify tokens.
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

/// What an attester's evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttesterType {
    /// A quote of a TPM and the log of measured boot.
    TpmBoot,
    /// A quote of a TPM and the log of IMA.
    TpmIma,
}

impl AttesterType {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpmBoot => "tpm_boot",
            Self::TpmIma => "tpm_ima",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::TpmBoot, Self::TpmIma].into_iter().find(|kind| kind.name() == name)
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
    /// Whether it applies to all evidence of its types.
    pub is_default: bool,
    /// When it was changed last, milliseconds since the Unix epoch.
    pub update_time: i64,
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Files that are known, each at its path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefValue {
    /// The tenant's words about them.
    pub description: String,
    /// What evidence they are for.
    pub attester_type: AttesterType,
    /// The signed content, as it was sent.
    pub jwt: String,
    /// What it says.
    pub files: Vec<KnownFile>,
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
    Node => Node,
    Policy => Policy,
    Certificate => Certificate,
    Crl => Crl,
    RefValue => RefValue,
}
