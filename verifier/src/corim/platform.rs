//! Software, configuration and keys of a platform: `tag:arm.com,2025:endorsements/cca_platform#1.0.0`.

use corim::profile::cca::{CCA_MKEY_PLATFORM_CONFIG, CCA_MKEY_SOFTWARE_COMPONENT};
use corim::types::common::{ClassIdChoice, CryptoKey, InstanceIdChoice, MeasuredElement, VersionMap};
use corim::types::environment::{ClassMap, EnvironmentMap};
use corim::types::measurement::{Digest as CorimDigest, MeasurementValuesMap, RawValueChoice};
use corim::types::triples::{AttestKeyTriple, ReferenceTriple};
use evidence::hash::{Digest, HashAlgorithm};

use super::realm::{measurement, names};
use crate::key::PublicKey;

/// What a document expects of the software and configuration of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformEndorsement {
    /// The implementation that it is about.
    pub implementation_id: [u8; 32],
    /// The one instance that it is about; `None` is every instance of the implementation.
    pub instance_id: Option<[u8; 33]>,
    /// All software components that the platform may report.
    pub components: Vec<ComponentEndorsement>,
    /// The configuration, with the bits of it that count.
    pub configuration: MaskedValue,
}

/// A software component in one or more versions of its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentEndorsement {
    /// The component's type, such as BL2, if the document names it.
    pub component_type: Option<String>,
    /// Its version, if the document names it.
    pub version: Option<String>,
    /// Its digests, at most one for each algorithm.
    pub measurements: Vec<Digest>,
    /// The hash of the key that signed it.
    pub signer_id: Digest,
}

/// A value of which only the bits of a mask count; both have the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedValue {
    /// The expected bytes.
    pub value: Vec<u8>,
    /// A set bit means that it must agree.
    pub mask: Vec<u8>,
}

/// The attestation key (CPAK) of one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyEndorsement {
    /// The implementation.
    pub implementation_id: [u8; 32],
    /// The instance.
    pub instance_id: [u8; 33],
    /// The key.
    pub key: PublicKey,
}

impl PlatformEndorsement {
    /// Reads a triple that the profile has validated.
    pub(super) fn from_triple(triple: &ReferenceTriple) -> Result<Self, String> {
        let implementation_id = implementation_id(triple.environment())?;
        let instance_id = instance_id(triple.environment())?;
        let (mut components, mut configuration) = (Vec::new(), None);
        for measurement in triple.measurements() {
            match &measurement.mkey {
                Some(MeasuredElement::Text(key)) if key == CCA_MKEY_SOFTWARE_COMPONENT => {
                    components.push(ComponentEndorsement::from_values(&measurement.mval)?);
                }
                Some(MeasuredElement::Text(key)) if key == CCA_MKEY_PLATFORM_CONFIG => {
                    configuration = Some(masked(&measurement.mval)?);
                }
                key => return Err(format!("the measurement {key:?} cannot be checked against a CCA token")),
            }
        }
        let configuration = configuration.ok_or("there is no cca.platform-config")?;
        Ok(Self { implementation_id, instance_id, components, configuration })
    }

    /// Writes the triple.
    pub(super) fn to_triple(&self) -> ReferenceTriple {
        let mut measurements: Vec<_> = self
            .components
            .iter()
            .map(|component| measurement(CCA_MKEY_SOFTWARE_COMPONENT, component.to_values()))
            .collect();
        let mut configuration = MeasurementValuesMap::new();
        configuration.raw_value = Some(RawValueChoice::Masked {
            value: self.configuration.value.clone(),
            mask: self.configuration.mask.clone(),
        });
        measurements.push(measurement(CCA_MKEY_PLATFORM_CONFIG, configuration));
        ReferenceTriple::new(environment(&self.implementation_id, self.instance_id.as_ref()), measurements)
    }
}

impl ComponentEndorsement {
    fn from_values(values: &MeasurementValuesMap) -> Result<Self, String> {
        let mut measurements = Vec::new();
        for listed in values.digests.as_deref().unwrap_or_default() {
            let digest = Digest::from_slice(listed.value())
                .filter(|digest| names(listed.alg(), digest.algorithm()))
                .ok_or_else(|| {
                    format!("a component has {} bytes of {}", listed.value().len(), listed.alg())
                })?;
            measurements.push(digest);
        }
        let signer_id = match values.cryptokeys.as_deref() {
            Some([CryptoKey::Bytes(bytes)]) => Digest::from_slice(bytes),
            _ => None,
        };
        Ok(Self {
            component_type: values.name.clone(),
            version: values.version.as_ref().map(|version| version.version.clone()),
            measurements,
            signer_id: signer_id.ok_or("a component has no signer of 32, 48 or 64 bytes")?,
        })
    }

    fn to_values(&self) -> MeasurementValuesMap {
        let digests = self
            .measurements
            .iter()
            .map(|digest| CorimDigest::new_text(digest.algorithm().name(), digest.as_bytes().to_vec()))
            .collect();
        let mut values = MeasurementValuesMap::new();
        values.version = self.version.clone().map(|version| VersionMap { version, version_scheme: None });
        values.digests = Some(digests);
        values.name = self.component_type.clone();
        values.cryptokeys = Some(vec![CryptoKey::Bytes(self.signer_id.as_bytes().to_vec())]);
        values
    }

    /// The digest of one algorithm.
    #[must_use]
    pub fn measurement(&self, algorithm: HashAlgorithm) -> Option<&Digest> {
        self.measurements.iter().find(|digest| digest.algorithm() == algorithm)
    }
}

impl MaskedValue {
    /// Whether `found` has the same length and agrees in every bit that counts.
    #[must_use]
    pub fn matches(&self, found: &[u8]) -> bool {
        self.value.len() == found.len()
            && self.mask.len() == found.len()
            && self.value.iter().zip(found).zip(&self.mask).all(|((a, b), mask)| a & mask == b & mask)
    }
}

impl KeyEndorsement {
    /// Reads an attestation-key triple that the profile has validated.
    pub(super) fn from_triple(triple: &AttestKeyTriple) -> Result<Self, String> {
        if triple.conditions().is_some() {
            return Err("conditions on an attestation key are not supported".to_owned());
        }
        let [CryptoKey::PkixBase64Key(pem)] = triple.keys() else {
            return Err("expected one public key in PEM".to_owned());
        };
        Ok(Self {
            implementation_id: implementation_id(triple.environment())?,
            instance_id: instance_id(triple.environment())?.ok_or("the key is not of one instance")?,
            key: PublicKey::from_pem(pem).map_err(|error| error.to_string())?,
        })
    }

    /// Writes the triple.
    pub(super) fn to_triple(&self) -> Result<AttestKeyTriple, String> {
        let pem = self.key.to_pem().map_err(|error| error.to_string())?;
        let environment = environment(&self.implementation_id, Some(&self.instance_id));
        Ok(AttestKeyTriple::new(environment, vec![CryptoKey::PkixBase64Key(pem)], None))
    }
}

fn environment(implementation_id: &[u8; 32], instance_id: Option<&[u8; 33]>) -> EnvironmentMap {
    let class = ClassMap {
        class_id: Some(ClassIdChoice::Bytes(implementation_id.to_vec())),
        vendor: None,
        model: None,
        layer: None,
        index: None,
    };
    let instance = instance_id.map(|id| InstanceIdChoice::Ueid(id.to_vec()));
    EnvironmentMap { class: Some(class), instance, group: None }
}

fn implementation_id(environment: &EnvironmentMap) -> Result<[u8; 32], String> {
    match environment.class.as_ref().and_then(|class| class.class_id.as_ref()) {
        Some(ClassIdChoice::Bytes(bytes)) => bytes.as_slice().try_into().ok(),
        _ => None,
    }
    .ok_or_else(|| "the environment has no implementation id of 32 bytes as its class".to_owned())
}

fn instance_id(environment: &EnvironmentMap) -> Result<Option<[u8; 33]>, String> {
    match &environment.instance {
        None => Ok(None),
        Some(InstanceIdChoice::Ueid(bytes)) => {
            bytes.as_slice().try_into().map(Some).map_err(|_| "the instance id is not 33 bytes".to_owned())
        }
        Some(_) => Err("the instance is not a UEID".to_owned()),
    }
}

fn masked(values: &MeasurementValuesMap) -> Result<MaskedValue, String> {
    match &values.raw_value {
        Some(RawValueChoice::Masked { value, mask }) if value.len() == mask.len() => {
            Ok(MaskedValue { value: value.clone(), mask: mask.clone() })
        }
        _ => Err("the configuration is not a value with a mask of its length".to_owned()),
    }
}
