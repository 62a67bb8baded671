//! The verified claims, as policies see them (`input.claims`) and as tokens report them (`tcb_status`).

use evidence::cca::{
    LifecycleState, PlatformClaims, PlatformProfile, RealmClaims, RealmProfile, SoftwareComponent,
};
use evidence::hash::HashAlgorithm;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::anchor::{Provenance, TrustAnchor};
use crate::logs::LogReport;
use crate::reference::{PlatformReference, RealmReference};

/// Everything that the pipeline established, under names that do not change. Byte strings are lower-case hexadecimal.
#[derive(Debug, Serialize)]
pub struct Claims<'a> {
    realm: Realm<'a>,
    platform: Platform<'a>,
    trust_anchor: Anchor<'a>,
    reference: Reference<'a>,
    logs: &'a LogReport,
}

#[derive(Debug, Serialize)]
struct Realm<'a> {
    profile: &'static str,
    challenge: String,
    personalization_value: String,
    hash_algorithm: &'a str,
    initial_measurement: String,
    extensible_measurements: Vec<String>,
    public_key_hash_algorithm: &'a str,
}

#[derive(Debug, Serialize)]
struct Platform<'a> {
    profile: &'static str,
    implementation_id: String,
    instance_id: String,
    config: String,
    lifecycle: Lifecycle,
    software_components: Vec<Component<'a>>,
    verification_service: Option<&'a str>,
    hash_algorithm: &'a str,
    /// `null` if nothing is registered for this platform's software.
    reference: Option<Reference<'a>>,
}

#[derive(Debug, Serialize)]
struct Lifecycle {
    value: u16,
    state: LifecycleState,
}

#[derive(Debug, Serialize)]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    measurement: String,
    version: Option<&'a str>,
    signer_id: String,
    hash_algorithm: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Anchor<'a> {
    name: &'a str,
    development: bool,
    provenance: &'a Provenance,
}

#[derive(Debug, Serialize)]
struct Reference<'a> {
    name: &'a str,
    provenance: &'a Provenance,
}

/// What the evidence matched.
#[derive(Clone, Copy)]
pub struct References<'a> {
    pub realm: &'a RealmReference,
    pub platform: Option<&'a PlatformReference>,
}

impl<'a> Claims<'a> {
    pub fn new(
        realm: &'a RealmClaims,
        platform: &'a PlatformClaims,
        state: LifecycleState,
        anchor: &'a TrustAnchor,
        references: References<'a>,
        logs: &'a LogReport,
    ) -> Self {
        let reference = references.realm;
        Self {
            realm: Realm {
                profile: match realm.profile {
                    RealmProfile::Legacy => "legacy",
                    RealmProfile::Realm2023 => "2023",
                    RealmProfile::Realm2024 { .. } => "2024",
                },
                challenge: hex::encode(realm.challenge),
                personalization_value: hex::encode(realm.rpv),
                hash_algorithm: realm.hash.name(),
                initial_measurement: realm.rim.to_string(),
                extensible_measurements: realm.rems.iter().map(ToString::to_string).collect(),
                public_key_hash_algorithm: realm.rak_hash.name(),
            },
            platform: Platform {
                profile: match platform.profile {
                    PlatformProfile::Legacy => "legacy",
                    PlatformProfile::Cca2023 => "2023",
                    PlatformProfile::Cca2024 { .. } => "2024",
                },
                implementation_id: hex::encode(platform.implementation_id),
                instance_id: hex::encode(platform.instance_id),
                config: hex::encode(&platform.config),
                lifecycle: Lifecycle { value: u16::from(platform.lifecycle), state },
                software_components: platform.components.iter().map(Component::from).collect(),
                verification_service: platform.verification_service.as_deref(),
                hash_algorithm: platform.hash.name(),
                reference: references
                    .platform
                    .map(|matched| Reference { name: &matched.name, provenance: &matched.provenance }),
            },
            trust_anchor: Anchor {
                name: &anchor.name,
                development: anchor.development,
                provenance: &anchor.provenance,
            },
            reference: Reference { name: &reference.name, provenance: &reference.provenance },
            logs,
        }
    }

    /// The flat form of secGear's `tcb_status`: dotted names, one level.
    pub fn tcb_status(&self) -> Map<String, Value> {
        let (realm, platform) = (&self.realm, &self.platform);
        let mut status = Map::new();
        let mut put = |name: &str, value: Value| {
            status.insert(name.to_owned(), value);
        };
        put("cca.realm.challenge", json!(realm.challenge));
        put("cca.realm.rpv", json!(realm.personalization_value));
        put("cca.realm.hash_algorithm", json!(realm.hash_algorithm));
        put("cca.realm.rim", json!(realm.initial_measurement));
        for (index, rem) in realm.extensible_measurements.iter().enumerate() {
            put(&format!("cca.realm.rem.{index}"), json!(rem));
        }
        put("cca.platform.implementation_id", json!(platform.implementation_id));
        put("cca.platform.instance_id", json!(platform.instance_id));
        put("cca.platform.config", json!(platform.config));
        put("cca.platform.lifecycle", json!(platform.lifecycle));
        put("cca.platform.software_components", json!(platform.software_components));
        put("cca.platform.reference", json!(platform.reference));
        put("cca.trust_anchor", json!(self.trust_anchor));
        put("cca.reference", json!(self.reference));
        status
    }
}

impl<'a> From<&'a SoftwareComponent> for Component<'a> {
    fn from(component: &'a SoftwareComponent) -> Self {
        Self {
            kind: component.kind.as_deref(),
            measurement: component.measurement.to_string(),
            version: component.version.as_deref(),
            signer_id: component.signer_id.to_string(),
            hash_algorithm: component.hash.map(HashAlgorithm::name),
        }
    }
}
