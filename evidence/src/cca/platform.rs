//! Claims of the platform token (RMM specification A7.2.3.3).

use ciborium::Value;

use crate::hash::{Digest, HashAlgorithm};
use crate::token::claims::{Claim, Claims, Scope, entry, hash_of};
use crate::token::{DecodeError, Lifecycle, MAX_COMPONENTS};
use crate::{cbor, quote};

pub(super) const PROFILE: Claim = Claim::new(Scope::Platform, 265, "profile");
pub(super) const NONCE: Claim = Claim::new(Scope::Platform, 10, "nonce");
pub(super) const IMPLEMENTATION_ID: Claim = Claim::new(Scope::Platform, 2396, "implementation id");
pub(super) const INSTANCE_ID: Claim = Claim::new(Scope::Platform, 256, "instance id");
pub(super) const CONFIG: Claim = Claim::new(Scope::Platform, 2401, "config");
pub(super) const LIFECYCLE: Claim = Claim::new(Scope::Platform, 2395, "lifecycle");
pub(super) const COMPONENTS: Claim = Claim::new(Scope::Platform, 2399, "software components");
pub(super) const VERIFICATION_SERVICE: Claim = Claim::new(Scope::Platform, 2400, "verification service");
pub(super) const HASH: Claim = Claim::new(Scope::Platform, 2402, "hash algorithm");
pub(super) const CLIENT_ID: Claim = Claim::new(Scope::Platform, 2394, "client id");
const KNOWN: [Claim; 10] = [
    PROFILE,
    NONCE,
    IMPLEMENTATION_ID,
    INSTANCE_ID,
    CONFIG,
    LIFECYCLE,
    COMPONENTS,
    VERIFICATION_SERVICE,
    HASH,
    CLIENT_ID,
];

pub(super) const COMPONENT_TYPE: Claim = Claim::new(Scope::Component, 1, "component type");
pub(super) const MEASUREMENT: Claim = Claim::new(Scope::Component, 2, "measurement value");
pub(super) const VERSION: Claim = Claim::new(Scope::Component, 4, "version");
pub(super) const SIGNER_ID: Claim = Claim::new(Scope::Component, 5, "signer id");
pub(super) const COMPONENT_HASH: Claim = Claim::new(Scope::Component, 6, "hash algorithm");
const KNOWN_OF_COMPONENT: [Claim; 5] = [COMPONENT_TYPE, MEASUREMENT, VERSION, SIGNER_ID, COMPONENT_HASH];

const PROFILE_LEGACY: &str = "http://arm.com/CCA-SSD/1.0.0";
const PROFILE_2023: &str = "tag:arm.com,2023:cca_platform#1.0.0";
const PROFILE_2024: &str = "tag:arm.com,2024:cca_platform#2.0.0";

/// The rules that a platform token follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformProfile {
    /// `http://arm.com/CCA-SSD/1.0.0`.
    Legacy,
    /// `tag:arm.com,2023:cca_platform#1.0.0`.
    Cca2023,
    /// `tag:arm.com,2024:cca_platform#2.0.0`: one more claim.
    Cca2024 {
        /// Which of the platform's services asked for the token.
        client_id: i32,
    },
}

/// A piece of firmware or configuration that the platform trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftwareComponent {
    /// What it is, such as `BL`.
    pub kind: Option<String>,
    /// Hash of the component.
    pub measurement: Digest,
    /// Version, in the vendor's words.
    pub version: Option<String>,
    /// Hash of the public key that signed it.
    pub signer_id: Digest,
    /// Algorithm of the measurement, if it is not the platform's.
    pub hash: Option<HashAlgorithm>,
}

/// What the platform says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformClaims {
    /// The rules that the token follows.
    pub profile: PlatformProfile,
    /// Hash of the Realm attestation key: 32, 48 or 64 bytes.
    pub nonce: Vec<u8>,
    /// Names the kind of platform.
    pub implementation_id: [u8; 32],
    /// Names the one platform; the first byte is 1.
    pub instance_id: [u8; 33],
    /// Configuration, opaque.
    pub config: Vec<u8>,
    /// Security lifecycle.
    pub lifecycle: Lifecycle,
    /// What the platform trusts: 1 to [`MAX_COMPONENTS`].
    pub components: Vec<SoftwareComponent>,
    /// Where the token may be verified.
    pub verification_service: Option<String>,
    /// Algorithm of the measurements of components that name none.
    pub hash: HashAlgorithm,
}

impl PlatformClaims {
    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut claims = Claims::read(Scope::Platform, payload, &KNOWN)?;
        let hash = claims.hash_algorithm(HASH)?;
        Ok(Self {
            profile: decode_profile(&mut claims)?,
            nonce: claims.hash(NONCE)?.as_bytes().to_vec(),
            implementation_id: claims.fixed(IMPLEMENTATION_ID, "32")?,
            instance_id: claims.ueid(INSTANCE_ID)?,
            config: claims.bytes(CONFIG)?,
            lifecycle: decode_lifecycle(&mut claims)?,
            components: decode_components(claims.require(COMPONENTS)?, hash)?,
            verification_service: claims.optional_text(VERIFICATION_SERVICE)?,
            hash,
        })
    }

    /// The claims as the payload of a token.
    pub fn encode(&self) -> Vec<u8> {
        let profile = match self.profile {
            PlatformProfile::Legacy => PROFILE_LEGACY,
            PlatformProfile::Cca2023 => PROFILE_2023,
            PlatformProfile::Cca2024 { .. } => PROFILE_2024,
        };
        let components: Vec<Value> = self.components.iter().map(encode_component).collect();
        let mut entries = vec![
            entry(PROFILE, profile),
            entry(NONCE, self.nonce.as_slice()),
            entry(IMPLEMENTATION_ID, self.implementation_id.as_slice()),
            entry(INSTANCE_ID, self.instance_id.as_slice()),
            entry(CONFIG, self.config.as_slice()),
            entry(LIFECYCLE, self.lifecycle.0),
            entry(HASH, self.hash.name()),
            entry(COMPONENTS, components),
        ];
        if let PlatformProfile::Cca2024 { client_id } = self.profile {
            entries.push(entry(CLIENT_ID, client_id));
        }
        if let Some(service) = &self.verification_service {
            entries.push(entry(VERIFICATION_SERVICE, service.as_str()));
        }
        cbor::write(&Value::Map(entries))
    }
}

fn decode_profile(claims: &mut Claims) -> Result<PlatformProfile, DecodeError> {
    match claims.text(PROFILE)?.as_str() {
        PROFILE_LEGACY => Ok(PlatformProfile::Legacy),
        PROFILE_2023 => Ok(PlatformProfile::Cca2023),
        PROFILE_2024 => {
            let client_id = claims.integer(CLIENT_ID, "a 32-bit signed integer")?;
            Ok(PlatformProfile::Cca2024 { client_id })
        }
        other => Err(DecodeError::ClaimValue {
            claim: PROFILE,
            expected: "http://arm.com/CCA-SSD/1.0.0, tag:arm.com,2023:cca_platform#1.0.0 or \
                       tag:arm.com,2024:cca_platform#2.0.0",
            found: quote(other),
        }),
    }
}

fn decode_lifecycle(claims: &mut Claims) -> Result<Lifecycle, DecodeError> {
    const EXPECTED: &str = "in one of the ranges 0xN000..0xN0ff, N from 0 to 6";
    let lifecycle = Lifecycle(claims.integer(LIFECYCLE, EXPECTED)?);
    lifecycle.state().map(|_| lifecycle).ok_or_else(|| DecodeError::ClaimValue {
        claim: LIFECYCLE,
        expected: EXPECTED,
        found: format!("0x{:04x}", lifecycle.0),
    })
}

fn decode_components(value: Value, hash: HashAlgorithm) -> Result<Vec<SoftwareComponent>, DecodeError> {
    let values = value
        .into_array()
        .map_err(|_| DecodeError::ClaimType { claim: COMPONENTS, expected: "an array of maps" })?;
    if values.is_empty() || values.len() > MAX_COMPONENTS {
        return Err(DecodeError::ComponentCount { claim: COMPONENTS, found: values.len() });
    }
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            decode_component(value, hash)
                .map_err(|source| DecodeError::Component { index, source: Box::new(source) })
        })
        .collect()
}

fn decode_component(value: Value, default: HashAlgorithm) -> Result<SoftwareComponent, DecodeError> {
    let entries = value
        .into_map()
        .map_err(|_| DecodeError::ClaimType { claim: COMPONENTS, expected: "an array of maps" })?;
    let mut claims = Claims::collect(Scope::Component, entries, &KNOWN_OF_COMPONENT)?;
    let hash = claims.holds(COMPONENT_HASH).then(|| claims.hash_algorithm(COMPONENT_HASH)).transpose()?;
    Ok(SoftwareComponent {
        kind: claims.optional_text(COMPONENT_TYPE)?,
        measurement: hash_of(MEASUREMENT, hash.unwrap_or(default), &claims.bytes(MEASUREMENT)?)?,
        version: claims.optional_text(VERSION)?,
        signer_id: claims.hash(SIGNER_ID)?,
        hash,
    })
}

fn encode_component(component: &SoftwareComponent) -> Value {
    let mut entries = Vec::new();
    entries.extend(component.kind.as_deref().map(|kind| entry(COMPONENT_TYPE, kind)));
    entries.push(entry(MEASUREMENT, component.measurement.as_bytes()));
    entries.extend(component.version.as_deref().map(|version| entry(VERSION, version)));
    entries.push(entry(SIGNER_ID, component.signer_id.as_bytes()));
    entries.extend(component.hash.map(|hash| entry(COMPONENT_HASH, hash.name())));
    Value::Map(entries)
}
