//! Claims of the Platform Token.

use ciborium::Value;

use crate::cbor;
use crate::hash::{Digest, HashAlgorithm};
use crate::token::claims::{Claim, Claims, Scope, entry, hash_of};
use crate::token::{DecodeError, Lifecycle, MAX_COMPONENTS};

pub(super) const PROFILE: Claim = Claim::new(Scope::Platform, 265, "profile");
pub(super) const CHALLENGE: Claim = Claim::new(Scope::Platform, 10, "challenge");
pub(super) const IMPLEMENTATION_ID: Claim = Claim::new(Scope::Platform, 2396, "implementation id");
pub(super) const INSTANCE_ID: Claim = Claim::new(Scope::Platform, 256, "instance id");
pub(super) const CONFIG: Claim = Claim::new(Scope::Platform, 2401, "config");
pub(super) const LIFECYCLE: Claim = Claim::new(Scope::Platform, 2395, "lifecycle");
pub(super) const COMPONENTS: Claim = Claim::new(Scope::Platform, 2399, "software components");
pub(super) const VERIFICATION_SERVICE: Claim = Claim::new(Scope::Platform, 2400, "verification service");
pub(super) const HASH: Claim = Claim::new(Scope::Platform, 2402, "hash algorithm");
pub(super) const KNOWN: [Claim; 9] = [
    PROFILE,
    CHALLENGE,
    IMPLEMENTATION_ID,
    INSTANCE_ID,
    CONFIG,
    LIFECYCLE,
    COMPONENTS,
    VERIFICATION_SERVICE,
    HASH,
];

pub(super) const COMPONENT_TYPE: Claim = Claim::new(Scope::Component, 1, "component type");
pub(super) const MEASUREMENT: Claim = Claim::new(Scope::Component, 2, "measurement value");
pub(super) const VERSION: Claim = Claim::new(Scope::Component, 4, "version");
pub(super) const SIGNER_ID: Claim = Claim::new(Scope::Component, 5, "signer id");
pub(super) const COMPONENT_HASH: Claim = Claim::new(Scope::Component, 6, "hash algorithm");
const KNOWN_OF_COMPONENT: [Claim; 5] = [COMPONENT_TYPE, MEASUREMENT, VERSION, SIGNER_ID, COMPONENT_HASH];

/// A piece of firmware that the platform trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftwareComponent {
    /// What it is, such as `tf_bl2`.
    pub kind: String,
    /// Hash of the component.
    pub measurement: Digest,
    /// Version, in the vendor's words.
    pub version: String,
    /// Names who signed it, in any length. Platforms in the field have been seen to leave it empty or out; both read as
    /// empty.
    pub signer_id: Vec<u8>,
    /// Algorithm of the measurement, if it is not the platform's.
    pub hash: Option<HashAlgorithm>,
}

/// What the platform says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformClaims {
    /// The rules that the token follows; seen empty.
    pub profile: String,
    /// Hash of the key that signs the CVM token.
    pub challenge: Digest,
    /// Names the kind of platform.
    pub implementation_id: [u8; 32],
    /// Names the one platform.
    pub instance_id: [u8; 33],
    /// Configuration, opaque, of any length.
    pub config: Vec<u8>,
    /// Security lifecycle.
    pub lifecycle: Lifecycle,
    /// What the platform trusts: 1 to [`MAX_COMPONENTS`].
    pub components: Vec<SoftwareComponent>,
    /// Where the token may be verified; seen empty.
    pub verification_service: String,
    /// Algorithm of the measurements of components that name none.
    pub hash: HashAlgorithm,
}

impl PlatformClaims {
    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut claims = Claims::read(Scope::Platform, payload, &KNOWN)?;
        let hash = claims.padded_hash_algorithm(HASH)?;
        Ok(Self {
            profile: claims.text(PROFILE)?,
            challenge: claims.hash(CHALLENGE)?,
            implementation_id: claims.fixed(IMPLEMENTATION_ID, "32")?,
            instance_id: claims.fixed(INSTANCE_ID, "33")?,
            config: claims.bytes(CONFIG)?,
            lifecycle: Lifecycle(claims.integer(LIFECYCLE, "an integer of 16 bits")?),
            components: decode_components(claims.require(COMPONENTS)?, hash)?,
            verification_service: claims.text(VERIFICATION_SERVICE)?,
            hash,
        })
    }

    /// The claims as the payload of a token.
    pub fn encode(&self) -> Vec<u8> {
        let components: Vec<Value> = self.components.iter().map(encode_component).collect();
        cbor::write(&Value::Map(vec![
            entry(PROFILE, self.profile.as_str()),
            entry(CHALLENGE, self.challenge.as_bytes()),
            entry(IMPLEMENTATION_ID, self.implementation_id.as_slice()),
            entry(INSTANCE_ID, self.instance_id.as_slice()),
            entry(CONFIG, self.config.as_slice()),
            entry(LIFECYCLE, self.lifecycle.0),
            entry(COMPONENTS, components),
            entry(VERIFICATION_SERVICE, self.verification_service.as_str()),
            entry(HASH, self.hash.name()),
        ]))
    }
}

fn decode_components(value: Value, hash: HashAlgorithm) -> Result<Vec<SoftwareComponent>, DecodeError> {
    let wrong = || DecodeError::ClaimType { claim: COMPONENTS, expected: "an array of maps" };
    let values = value.into_array().map_err(|_| wrong())?;
    if values.is_empty() || values.len() > MAX_COMPONENTS {
        return Err(DecodeError::ComponentCount { claim: COMPONENTS, found: values.len() });
    }
    let decode = |(index, value): (usize, Value)| {
        let entries = value.into_map().map_err(|_| wrong())?;
        decode_component(entries, hash)
            .map_err(|source| DecodeError::Component { index, source: Box::new(source) })
    };
    values.into_iter().enumerate().map(decode).collect()
}

fn decode_component(
    entries: Vec<(Value, Value)>,
    default: HashAlgorithm,
) -> Result<SoftwareComponent, DecodeError> {
    let mut claims = Claims::collect(Scope::Component, entries, &KNOWN_OF_COMPONENT)?;
    let hash =
        claims.holds(COMPONENT_HASH).then(|| claims.padded_hash_algorithm(COMPONENT_HASH)).transpose()?;
    let signer_id = claims.holds(SIGNER_ID).then(|| claims.bytes(SIGNER_ID)).transpose()?;
    Ok(SoftwareComponent {
        kind: claims.text(COMPONENT_TYPE)?,
        measurement: hash_of(MEASUREMENT, hash.unwrap_or(default), &claims.bytes(MEASUREMENT)?)?,
        version: claims.text(VERSION)?,
        signer_id: signer_id.unwrap_or_default(),
        hash,
    })
}

fn encode_component(component: &SoftwareComponent) -> Value {
    let mut entries = vec![
        entry(COMPONENT_TYPE, component.kind.as_str()),
        entry(MEASUREMENT, component.measurement.as_bytes()),
        entry(VERSION, component.version.as_str()),
        entry(SIGNER_ID, component.signer_id.as_slice()),
    ];
    entries.extend(component.hash.map(|hash| entry(COMPONENT_HASH, hash.name())));
    Value::Map(entries)
}
