//! The verified claims, as policies see them (`input.claims`) and as tokens report them (`tcb_status`).

use evidence::hash::HashAlgorithm;
use evidence::token::LifecycleState;
use evidence::virtcca::{PlatformClaims, SoftwareComponent};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cvm_signature::TrustedCvm;
use super::platform_software::ComponentResult;
use crate::anchor::Provenance;
use crate::chain::Device;
use crate::input::MEASURED;
use crate::logs::LogReport;
use crate::reference::RealmReference;
use crate::rego::Document;

const REMS: [&str; 4] = ["vcca.cvm.rem.0", "vcca.cvm.rem.1", "vcca.cvm.rem.2", "vcca.cvm.rem.3"];

/// Everything that the pipeline established, under names that do not change. Byte strings are lower-case hexadecimal.
#[derive(Debug, Serialize)]
pub struct Claims<'a> {
    cvm: Cvm<'a>,
    /// `platform`, which is `null` without a Platform Token.
    #[serde(skip)]
    platform: Option<&'a PlatformView>,
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
        platform: Option<&'a PlatformView>,
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
            platform,
            key_binding: match platform {
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

    /// The claims in every form in which they are told.
    pub fn show(&self) -> Result<Shown, serde_json::Error> {
        let Value::Object(typed) = serde_json::to_value(self)? else {
            return Err(serde::ser::Error::custom("they are not an object"));
        };
        let typed = typed.iter().map(|(name, value)| (name.as_str(), Document::from(value)));
        let platform = self.platform.map_or_else(Document::null, |view| view.typed.clone());
        let measured = self.platform.map_or_else(|| Document::from(json!([])), |view| view.measured.clone());
        let typed = typed.chain([("platform", platform)]).collect();
        Ok(Shown { typed, tcb_status: self.tcb_status(), measured })
    }

    /// secGear's `tcb_status`, spelt as secGear spells it, and more under names of ours.
    fn tcb_status(&self) -> Map<String, Value> {
        let cvm = &self.cvm;
        let mut status = self.platform.map(|view| view.tcb_status.clone()).unwrap_or_default();
        let mut put = |name: &str, value: Value| {
            status.insert(name.to_owned(), value);
        };
        put("vcca.cvm.challenge", json!(cvm.challenge));
        put("vcca.cvm.rpv", json!(cvm.personalization_value));
        put("vcca.cvm.rim", json!(cvm.initial_measurement));
        for (name, rem) in REMS.into_iter().zip(&cvm.extensible_measurements) {
            put(name, json!(rem));
        }
        put("vcca.cvm.hash_algorithm", json!(cvm.hash_algorithm));
        put("vcca.is_platform", json!(self.platform.is_some()));
        if self.platform.is_none() {
            put(MEASURED, json!([]));
        }
        put("vcca.key_binding", json!(self.key_binding));
        put("vcca.device", json!(self.device));
        put("vcca.reference", json!(self.reference));
        status
    }
}

/// The claims as they are told.
pub struct Shown {
    /// Under names of ours.
    pub typed: Document,
    /// secGear's `tcb_status`.
    pub tcb_status: Map<String, Value>,
    /// Its member [`MEASURED`] for policies.
    pub measured: Document,
}

/// What is told of a platform, in every form. It depends on the Platform Token and the results for its components only.
#[derive(Debug)]
pub struct PlatformView {
    results: Vec<ComponentResult>,
    typed: Document,
    /// secGear's names and ours.
    tcb_status: Map<String, Value>,
    measured: Document,
}

impl PlatformView {
    /// A view of `claims`; `results` are in the order of the components.
    pub fn new(claims: &PlatformClaims, results: &[ComponentResult]) -> Result<Self, serde_json::Error> {
        let platform = Platform::new(claims, results);
        let components = &platform.software_components;
        let measured: Value = components.iter().map(Component::as_secgear_spells_it).collect();
        let measured_document = Document::from(&measured);
        let status = [
            ("vcca.platform.implementation_id", json!(platform.implementation_id)),
            ("vcca.platform.instance_id", json!(platform.instance_id)),
            ("vcca.platform.config", json!(platform.config)),
            ("vcca.platform.lifecycle", serde_json::to_value(&platform.lifecycle)?),
            ("vcca.platform.software_components", serde_json::to_value(components)?),
            (MEASURED, measured),
        ];
        Ok(Self {
            results: results.to_vec(),
            typed: Document::from(serde_json::to_value(&platform)?),
            tcb_status: status.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            measured: measured_document,
        })
    }

    /// The results for the components.
    pub fn results(&self) -> &[ComponentResult] {
        &self.results
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
