//! Measurements of a Realm: `tag:arm.com,2025:endorsements/cca_realm#1.0.0`.

use corim::profile::cca::{
    CCA_MKEY_REM0, CCA_MKEY_REM1, CCA_MKEY_REM2, CCA_MKEY_REM3, CCA_MKEY_RIM, CCA_MKEY_RPV,
};
use corim::types::common::{ClassIdChoice, MeasuredElement};
use corim::types::environment::{ClassMap, EnvironmentMap};
use corim::types::measurement::{
    Digest as CorimDigest, DigestAlg, MeasurementMap, MeasurementValuesMap, RawValueChoice,
};
use corim::types::triples::ReferenceTriple;
use evidence::hash::{Digest, HashAlgorithm};

const REM_KEYS: [&str; 4] = [CCA_MKEY_REM0, CCA_MKEY_REM1, CCA_MKEY_REM2, CCA_MKEY_REM3];

/// The measurements that a document expects of a Realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmEndorsement {
    /// Realm Initial Measurement.
    pub rim: Digest,
    /// Realm Personalisation Value, if the document states one.
    pub rpv: Option<[u8; 64]>,
    /// Realm Extensible Measurements 0 to 3, where the document states them.
    pub rems: [Option<Digest>; 4],
}

impl RealmEndorsement {
    /// Reads a triple that the profile has validated: known keys, each at most once, sizes, and a RIM that agrees with
    /// the environment's class.
    pub(super) fn from_triple(triple: &ReferenceTriple) -> Result<Self, String> {
        let rim = class_digest(triple.environment())?;
        let algorithm = rim.algorithm();
        let (mut rpv, mut rems) = (None, [None; 4]);
        for measurement in triple.measurements() {
            let Some(MeasuredElement::Text(key)) = &measurement.mkey else {
                return Err("a measurement has no text key".to_owned());
            };
            let values = &measurement.mval;
            if key == CCA_MKEY_RIM {
                if digest(values, algorithm).map_err(|problem| format!("{key}: {problem}"))? != rim {
                    return Err(format!("{key} differs from the class of the environment"));
                }
            } else if key == CCA_MKEY_RPV {
                rpv = Some(rpv_bytes(values).ok_or_else(|| format!("{key} is not 64 bytes"))?);
            } else if let Some(rem) =
                REM_KEYS.iter().position(|known| key == known).and_then(|index| rems.get_mut(index))
            {
                *rem = Some(digest(values, algorithm).map_err(|problem| format!("{key}: {problem}"))?);
            } else {
                return Err(format!("the measurement key {key:?} is not known"));
            }
        }
        Ok(Self { rim, rpv, rems })
    }

    /// Writes the triple.
    pub(super) fn to_triple(&self) -> ReferenceTriple {
        let class = ClassMap {
            class_id: Some(ClassIdChoice::Bytes(self.rim.as_bytes().to_vec())),
            vendor: None,
            model: None,
            layer: None,
            index: None,
        };
        let mut measurements = vec![digest_measurement(CCA_MKEY_RIM, &self.rim)];
        for (key, rem) in REM_KEYS.iter().zip(&self.rems) {
            measurements.extend(rem.as_ref().map(|rem| digest_measurement(key, rem)));
        }
        if let Some(rpv) = self.rpv {
            let mut values = MeasurementValuesMap::new();
            values.raw_value = Some(RawValueChoice::Bytes(rpv.to_vec()));
            measurements.push(measurement(CCA_MKEY_RPV, values));
        }
        ReferenceTriple::new(EnvironmentMap { class: Some(class), instance: None, group: None }, measurements)
    }
}

fn class_digest(environment: &EnvironmentMap) -> Result<Digest, String> {
    match environment.class.as_ref().and_then(|class| class.class_id.as_ref()) {
        Some(ClassIdChoice::Bytes(bytes)) => Digest::from_slice(bytes)
            .ok_or_else(|| format!("the class is not a RIM: {} bytes, expected 32, 48 or 64", bytes.len())),
        _ => Err("the environment has no class of bytes, which is the RIM".to_owned()),
    }
}

/// The digest of `algorithm`, of those that a measurement lists for several.
pub(super) fn digest(values: &MeasurementValuesMap, algorithm: HashAlgorithm) -> Result<Digest, String> {
    let listed = values.digests.as_deref().unwrap_or_default();
    let fitting = listed.iter().find(|digest| names(digest.alg(), algorithm));
    let found =
        fitting.ok_or_else(|| format!("there is no {algorithm} digest, the algorithm of this Realm"))?;
    Digest::from_slice(found.value())
        .filter(|digest| digest.algorithm() == algorithm)
        .ok_or_else(|| format!("the {algorithm} digest has {} bytes", found.value().len()))
}

/// Whether a digest's label is `algorithm`: its name, or its number in IANA's named information registry.
pub(super) fn names(label: &DigestAlg, algorithm: HashAlgorithm) -> bool {
    let number = match algorithm {
        HashAlgorithm::Sha256 => 1,
        HashAlgorithm::Sha384 => 7,
        HashAlgorithm::Sha512 => 8,
    };
    label.as_int() == Some(number)
        || label.as_text().is_some_and(|name| name.eq_ignore_ascii_case(algorithm.name()))
}

fn rpv_bytes(values: &MeasurementValuesMap) -> Option<[u8; 64]> {
    match &values.raw_value {
        Some(RawValueChoice::Bytes(bytes)) => bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

pub(super) fn digest_measurement(key: &str, digest: &Digest) -> MeasurementMap {
    let mut values = MeasurementValuesMap::new();
    values.digests = Some(vec![CorimDigest::new_text(digest.algorithm().name(), digest.as_bytes().to_vec())]);
    measurement(key, values)
}

pub(super) fn measurement(key: &str, mval: MeasurementValuesMap) -> MeasurementMap {
    MeasurementMap { mkey: Some(MeasuredElement::Text(key.to_owned())), mval, authorized_by: None }
}
