//! An EAT Attestation Result (draft-ietf-rats-ear-04): a trustworthiness vector (draft-ietf-rats-ar4si-08 section 2.3) for
//! the platform and one for the Realm, under the names that Veraison gives to them.
//!
//! The types are ours because the `ear` crate depends on one whose build script fetches from the network.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::appraisal::Appraisal;
use crate::logs::Explained;

/// The profile of the result, `eat_profile`.
pub const EAR_PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// The claims of an EAR; with `iat`, `exp` and `eat_nonce` of the token they are a whole one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ear {
    /// [`EAR_PROFILE`].
    pub eat_profile: &'static str,
    /// Who appraised.
    pub ear_verifier_id: VerifierId,
    /// The appraisals by the name of what was appraised.
    pub submods: BTreeMap<&'static str, Submodule>,
}

/// Who appraised: `ear_verifier_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifierId {
    /// Who made the verifier.
    pub developer: String,
    /// Which verifier it is.
    pub build: String,
}

/// The appraisal of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submodule {
    /// The worst tier in the vector.
    pub ear_status: Tier,
    /// The vector.
    pub ear_trustworthiness_vector: TrustVector,
    /// The policies that applied.
    pub ear_appraisal_policy_ids: Vec<String>,
}

/// A tier of trust, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing is claimed.
    None,
    /// 2 to 31.
    Affirming,
    /// 32 to 95.
    Warning,
    /// 96 to 127.
    Contraindicated,
}

/// The claims that this verifier makes; what it does not look at is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrustVector {
    /// Which instance it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_identity: Option<i8>,
    /// How it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<i8>,
    /// What runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executables: Option<i8>,
    /// What it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<i8>,
    /// Who sees its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_opaque: Option<i8>,
    /// Who sees its stored secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_opaque: Option<i8>,
}

const TRUSTWORTHY_INSTANCE: i8 = 2;
const UNSAFE_CONFIGURATION: i8 = 32;
const APPROVED_RUNTIME: i8 = 2;
const APPROVED_BOOT: i8 = 3;
const UNRECOGNIZED_RUNTIME: i8 = 33;
const GENUINE_HARDWARE: i8 = 2;
const UNSAFE_HARDWARE: i8 = 32;
const ENCRYPTED_MEMORY: i8 = 2;
const ISOLATED_MEMORY: i8 = 32;
const SECRETS_ENCRYPTED_WITH_HARDWARE_KEYS: i8 = 2;

impl TrustVector {
    fn tier(self) -> Tier {
        let Self { instance_identity, configuration, executables, hardware, runtime_opaque, storage_opaque } =
            self;
        [instance_identity, configuration, executables, hardware, runtime_opaque, storage_opaque]
            .into_iter()
            .flatten()
            .map(|value| match value {
                96..=127 => Tier::Contraindicated,
                32..=95 => Tier::Warning,
                2..=31 => Tier::Affirming,
                _ => Tier::None,
            })
            .max()
            .unwrap_or(Tier::None)
    }
}

impl Ear {
    /// The result for evidence that was accepted.
    ///
    /// A value below affirming comes from an exception that the operator made by name in every policy: a development key
    /// makes the hardware unsafe, a lifecycle that is not secured the configuration.
    #[must_use]
    pub fn new(appraisal: &Appraisal, verifier: VerifierId) -> Self {
        let (platform, guest) = match appraisal.tee {
            "virtcca" => ("VIRTCCA_PLATFORM", "VIRTCCA_CVM"),
            _ => ("CCA_SSD_PLATFORM", "CCA_REALM"),
        };
        let submodule = |vector: TrustVector| Submodule {
            ear_status: vector.tier(),
            ear_trustworthiness_vector: vector,
            ear_appraisal_policy_ids: appraisal.policies.iter().map(|policy| policy.id.clone()).collect(),
        };
        Self {
            eat_profile: EAR_PROFILE,
            ear_verifier_id: verifier,
            submods: BTreeMap::from([
                (platform, submodule(platform_vector(appraisal))),
                (guest, submodule(guest_vector(appraisal))),
            ]),
        }
    }

    /// The worst tier of all parts.
    #[must_use]
    pub fn status(&self) -> Tier {
        self.submods.values().map(|submodule| submodule.ear_status).max().unwrap_or(Tier::None)
    }
}

fn platform_vector(appraisal: &Appraisal) -> TrustVector {
    let secured = secured(appraisal);
    TrustVector {
        instance_identity: Some(TRUSTWORTHY_INSTANCE),
        hardware: Some(if appraisal.trust.is_development() { UNSAFE_HARDWARE } else { GENUINE_HARDWARE }),
        configuration: (!secured).then_some(UNSAFE_CONFIGURATION),
        storage_opaque: secured.then_some(SECRETS_ENCRYPTED_WITH_HARDWARE_KEYS),
        ..TrustVector::default()
    }
}

fn guest_vector(appraisal: &Appraisal) -> TrustVector {
    let unexplained = appraisal.logs.registers.contains(&Explained::Unexplained);
    // What runs is known if every file that was used is, or if the registers are exactly the expected ones.
    let all_registers_expected =
        appraisal.logs.ima.is_some() || appraisal.reference.rems.iter().all(Option::is_some);
    TrustVector {
        instance_identity: Some(TRUSTWORTHY_INSTANCE),
        executables: Some(match (unexplained, all_registers_expected) {
            (true, _) => UNRECOGNIZED_RUNTIME,
            (false, true) => APPROVED_RUNTIME,
            (false, false) => APPROVED_BOOT,
        }),
        runtime_opaque: Some(if appraisal.trust.is_development() {
            ISOLATED_MEMORY
        } else {
            ENCRYPTED_MEMORY
        }),
        ..TrustVector::default()
    }
}

/// virtCCA's lifecycle is held against the operator's list, so that what was accepted is what was asked for; without a
/// Platform Token there is none.
fn secured(appraisal: &Appraisal) -> bool {
    match appraisal.tee {
        "virtcca" => appraisal.claims.at(["platform", "lifecycle"]).is_some(),
        _ => {
            let state = appraisal.claims.at(["platform", "lifecycle", "state"]);
            state.is_some_and(|state| state.as_str() == Some("secured"))
        }
    }
}
