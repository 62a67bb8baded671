//! Claims of the Realm token (RMM specification A7.2.3.1).

use ciborium::Value;

use super::key::RealmKey;
use crate::hash::{Digest, HashAlgorithm};
use crate::token::DecodeError;
use crate::token::claims::{Claim, Claims, Scope, entry, hash_of, measurements};
use crate::{cbor, quote};

pub(super) const CHALLENGE: Claim = Claim::new(Scope::Realm, 10, "challenge");
pub(super) const PROFILE: Claim = Claim::new(Scope::Realm, 265, "profile");
pub(super) const INSTANCE_ID: Claim = Claim::new(Scope::Realm, 256, "instance id");
pub(super) const RPV: Claim = Claim::new(Scope::Realm, 44235, "personalization value");
pub(super) const HASH: Claim = Claim::new(Scope::Realm, 44236, "hash algorithm");
pub(super) const RAK: Claim = Claim::new(Scope::Realm, 44237, "public key");
pub(super) const RIM: Claim = Claim::new(Scope::Realm, 44238, "initial measurement");
pub(super) const REMS: Claim = Claim::new(Scope::Realm, 44239, "extensible measurements");
pub(super) const RAK_HASH: Claim = Claim::new(Scope::Realm, 44240, "public key hash algorithm");
pub(super) const MEC_POLICY: Claim = Claim::new(Scope::Realm, 44243, "MEC policy");
const KNOWN: [Claim; 10] = [CHALLENGE, PROFILE, INSTANCE_ID, RPV, HASH, RAK, RIM, REMS, RAK_HASH, MEC_POLICY];

const PROFILE_2023: &str = "tag:arm.com,2023:realm#1.0.0";
const PROFILE_2024: &str = "tag:arm.com,2024:realm#2.0.0";

/// The rules that a Realm token follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealmProfile {
    /// No profile claim: the key is a bare P-384 point.
    Legacy,
    /// `tag:arm.com,2023:realm#1.0.0`: the key is a COSE_Key.
    Realm2023,
    /// `tag:arm.com,2024:realm#2.0.0`: more claims.
    Realm2024 {
        /// Random identity of the Realm. The RMM specification demands it, the token draft does not know it.
        instance_id: Option<[u8; 33]>,
        /// How the Realm's memory is encrypted.
        mec_policy: MecPolicy,
    },
}

/// Whether the Realm shares its memory encryption context (MEC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MecPolicy {
    /// Shared with other Realms, or the platform has one context only.
    Shared,
    /// The Realm has its own.
    Private,
}

/// What the Realm Management Monitor says about a Realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmClaims {
    /// What the Realm gave when it asked for the token.
    pub challenge: [u8; 64],
    /// The rules that the token follows.
    pub profile: RealmProfile,
    /// Realm personalization value.
    pub rpv: [u8; 64],
    /// Algorithm of the measurements.
    pub hash: HashAlgorithm,
    /// The key that signs the Realm token.
    pub rak: RealmKey,
    /// Realm initial measurement.
    pub rim: Digest,
    /// Realm extensible measurements.
    pub rems: [Digest; 4],
    /// Algorithm by which the platform token's nonce is the hash of [`RealmKey::claim_bytes`].
    pub rak_hash: HashAlgorithm,
}

impl RealmClaims {
    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut claims = Claims::read(Scope::Realm, payload, &KNOWN)?;
        let profile = decode_profile(&mut claims)?;
        let hash = claims.hash_algorithm(HASH)?;
        let rak = claims.bytes(RAK)?;
        let rak = match profile {
            RealmProfile::Legacy => RealmKey::raw_p384(&rak),
            RealmProfile::Realm2023 | RealmProfile::Realm2024 { .. } => RealmKey::decode_cose(rak),
        }
        .map_err(|source| DecodeError::Key { claim: RAK, source })?;
        Ok(Self {
            challenge: claims.fixed(CHALLENGE, "64")?,
            profile,
            rpv: claims.fixed(RPV, "64")?,
            hash,
            rak,
            rim: hash_of(RIM, hash, &claims.bytes(RIM)?)?,
            rems: measurements(&mut claims, REMS, hash)?,
            rak_hash: claims.hash_algorithm(RAK_HASH)?,
        })
    }

    /// The claims as the payload of a token, in the order in which a monitor writes them.
    pub fn encode(&self) -> Vec<u8> {
        let mut entries = vec![entry(CHALLENGE, self.challenge.as_slice())];
        match self.profile {
            RealmProfile::Legacy => {}
            RealmProfile::Realm2023 => entries.push(entry(PROFILE, PROFILE_2023)),
            RealmProfile::Realm2024 { .. } => entries.push(entry(PROFILE, PROFILE_2024)),
        }
        entries.extend([
            entry(RPV, self.rpv.as_slice()),
            entry(HASH, self.hash.name()),
            entry(RAK_HASH, self.rak_hash.name()),
            entry(RAK, self.rak.claim_bytes()),
            entry(RIM, self.rim.as_bytes()),
            entry(REMS, self.rems.iter().map(|rem| rem.as_bytes().into()).collect::<Vec<Value>>()),
        ]);
        if let RealmProfile::Realm2024 { instance_id, mec_policy } = self.profile {
            entries.extend(instance_id.map(|id| entry(INSTANCE_ID, id.as_slice())));
            entries.push(entry(
                MEC_POLICY,
                match mec_policy {
                    MecPolicy::Shared => 0,
                    MecPolicy::Private => 1,
                },
            ));
        }
        cbor::write(&Value::Map(entries))
    }
}

fn decode_profile(claims: &mut Claims) -> Result<RealmProfile, DecodeError> {
    match claims.optional_text(PROFILE)?.as_deref() {
        None => Ok(RealmProfile::Legacy),
        Some(PROFILE_2023) => Ok(RealmProfile::Realm2023),
        Some(PROFILE_2024) => Ok(RealmProfile::Realm2024 {
            instance_id: claims.holds(INSTANCE_ID).then(|| claims.ueid(INSTANCE_ID)).transpose()?,
            mec_policy: decode_mec_policy(claims.require(MEC_POLICY)?)?,
        }),
        Some(other) => Err(DecodeError::ClaimValue {
            claim: PROFILE,
            expected: "tag:arm.com,2023:realm#1.0.0, tag:arm.com,2024:realm#2.0.0 or absent",
            found: quote(other),
        }),
    }
}

/// Monitors write a number (RMM specification 2.0), the token draft has text.
fn decode_mec_policy(value: Value) -> Result<MecPolicy, DecodeError> {
    const EXPECTED: &str = "0 (shared) or 1 (private)";
    match value {
        Value::Integer(number) => match i128::from(number) {
            0 => Ok(MecPolicy::Shared),
            1 => Ok(MecPolicy::Private),
            other => Err(DecodeError::ClaimValue {
                claim: MEC_POLICY,
                expected: EXPECTED,
                found: other.to_string(),
            }),
        },
        Value::Text(text) => match text.as_str() {
            "shared" => Ok(MecPolicy::Shared),
            "private" => Ok(MecPolicy::Private),
            other => {
                Err(DecodeError::ClaimValue { claim: MEC_POLICY, expected: EXPECTED, found: quote(other) })
            }
        },
        _ => Err(DecodeError::ClaimType { claim: MEC_POLICY, expected: EXPECTED }),
    }
}
