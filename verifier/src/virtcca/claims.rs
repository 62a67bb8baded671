//! The verified claims, as policies see them (`input.claims`) and as tokens report them (`tcb_status`).

use evidence::hash::HashAlgorithm;
use evidence::token::LifecycleState;
use evidence::virtcca::{PlatformClaims, SoftwareComponent};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cvm_signature::TrustedCvm;
use super::platform_signature::VouchedKey;
use super::platform_software::ComponentResult;
use crate::anchor::Provenance;
use crate::chain::Device;
use crate::logs::LogReport;
use crate::reference::RealmReference;

/// Everything that the pipeline established, under names that do not change. Byte strings are lower-case hexadecimal.
#[derive(Debug, Serialize)]
pub struct Claims<'a> {
    cvm: Cvm<'a>,
    /// `null` without a Platform Token.
    platform: Option<Platform<'a>>,
    /// What names the key that signs the CVM token.
    key_binding: KeyBinding,
    device: DeviceClaims<'a>,
    reference: Reference<'a>,
    logs: &'a LogReport,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum KeyBinding {
    Platform,
    DeviceCertificate,
}

#[derive(Debug, Serialize)]
struct Cvm<'a> {
    challenge: String,
    personalization_value: String,
    hash_algorithm: &'a str,
    initial_measurement: String,
    extensible_measurements: Vec<String>,
    key_type: &'a str,
    public_key_hash_algorithm: &'a str,
}

#[derive(Debug, Serialize)]
struct Platform<'a> {
    profile: &'a str,
    implementation_id: String,
    instance_id: String,
    config: String,
    lifecycle: Lifecycle,
    software_components: Vec<Component<'a>>,
    verification_service: &'a str,
    hash_algorithm: &'a str,
}

#[derive(Debug, Serialize)]
struct Lifecycle {
    value: u16,
    state: Option<LifecycleState>,
}

#[derive(Debug, Serialize)]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    measurement: String,
    version: &'a str,
    signer_id: String,
    hash_algorithm: Option<&'a str>,
    result: ComponentResult,
}

#[derive(Debug, Serialize)]
struct DeviceClaims<'a> {
    subject: &'a str,
    issuer: &'a str,
    serial: &'a str,
    fingerprint: String,
    root: &'a str,
    root_fingerprint: String,
    revocation_checked: bool,
    valid_until: i64,
}

#[derive(Debug, Serialize)]
struct Reference<'a> {
    name: &'a str,
    provenance: &'a Provenance,
}

impl<'a> Claims<'a> {
    pub fn new(
        cvm: &TrustedCvm<'a>,
        vouched: &VouchedKey<'a>,
        components: &[ComponentResult],
        device: &'a Device,
        reference: &'a RealmReference,
        logs: &'a LogReport,
    ) -> Self {
        let cvm = cvm.0;
        Self {
            cvm: Cvm {
                challenge: hex::encode(cvm.challenge),
                personalization_value: hex::encode(cvm.rpv),
                hash_algorithm: cvm.hash.name(),
                initial_measurement: cvm.rim.to_string(),
                extensible_measurements: cvm.rems.iter().map(ToString::to_string).collect(),
                key_type: cvm.key.kind(),
                public_key_hash_algorithm: cvm.key_hash.name(),
            },
            platform: vouched.platform.map(|platform| Platform::new(platform, components)),
            key_binding: match vouched.platform {
                Some(_) => KeyBinding::Platform,
                None => KeyBinding::DeviceCertificate,
            },
            device: DeviceClaims {
                subject: &device.subject,
                issuer: &device.issuer,
                serial: &device.serial,
                fingerprint: device.fingerprint.to_string(),
                root: &device.root_subject,
                root_fingerprint: device.root.to_string(),
                revocation_checked: device.revocation_checked,
                valid_until: device.not_after,
            },
            reference: Reference { name: &reference.name, provenance: &reference.provenance },
            logs,
        }
    }

    /// secGear's `tcb_status`, spelt as secGear spells it, and more under names of ours.
    pub fn tcb_status(&self) -> Map<String, Value> {
        let cvm = &self.cvm;
        let mut status = Map::new();
        let mut put = |name: &str, value: Value| {
            status.insert(name.to_owned(), value);
        };
        put("vcca.cvm.challenge", json!(cvm.challenge));
        put("vcca.cvm.rpv", json!(cvm.personalization_value));
        put("vcca.cvm.rim", json!(cvm.initial_measurement));
        for (index, rem) in cvm.extensible_measurements.iter().enumerate() {
            put(&format!("vcca.cvm.rem.{index}"), json!(rem));
        }
        put("vcca.cvm.hash_algorithm", json!(cvm.hash_algorithm));
        put("vcca.is_platform", json!(self.platform.is_some()));
        let components = self.platform.as_ref().map_or(&[][..], |platform| &platform.software_components);
        let measured: Vec<Value> = components.iter().map(Component::as_secgear_spells_it).collect();
        put("vcca.platform.measure_value", json!(measured));
        if let Some(platform) = &self.platform {
            put("vcca.platform.implementation_id", json!(platform.implementation_id));
            put("vcca.platform.instance_id", json!(platform.instance_id));
            put("vcca.platform.config", json!(platform.config));
            put("vcca.platform.lifecycle", json!(platform.lifecycle));
            put("vcca.platform.software_components", json!(platform.software_components));
        }
        put("vcca.key_binding", json!(self.key_binding));
        put("vcca.device", json!(self.device));
        put("vcca.reference", json!(self.reference));
        status
    }
}

impl<'a> Platform<'a> {
    fn new(platform: &'a PlatformClaims, results: &[ComponentResult]) -> Self {
        let lifecycle = platform.lifecycle;
        Self {
            profile: &platform.profile,
            implementation_id: hex::encode(platform.implementation_id),
            instance_id: hex::encode(platform.instance_id),
            config: hex::encode(&platform.config),
            lifecycle: Lifecycle { value: u16::from(lifecycle), state: lifecycle.state() },
            software_components: platform
                .components
                .iter()
                .zip(results)
                .map(|(component, result)| Component::new(component, *result))
                .collect(),
            verification_service: &platform.verification_service,
            hash_algorithm: platform.hash.name(),
        }
    }
}

impl<'a> Component<'a> {
    fn new(component: &'a SoftwareComponent, result: ComponentResult) -> Self {
        Self {
            kind: &component.kind,
            measurement: component.measurement.to_string(),
            version: &component.version,
            signer_id: hex::encode(&component.signer_id),
            hash_algorithm: component.hash.map(HashAlgorithm::name),
            result,
        }
    }

    fn as_secgear_spells_it(&self) -> Value {
        json!({
            "firware_name": self.kind,
            "measurement": self.measurement,
            "firware_version": self.version,
        })
    }
}
