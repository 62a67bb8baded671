//! Arm CCA attestation tokens: a platform token and a Realm token in one wrapper.
//!
//! RMM specification A7.2, draft-ffm-rats-cca-token. Decoding is strict: definite lengths, each mandatory claim exactly
//! once, exact sizes, known algorithms, nothing left over; claims that are not known are tolerated, as the draft asks.
//! Decoding verifies nothing: [`Signed`] carries what is needed to do so.

mod claims;
mod cose;
mod error;
mod key;
mod platform;
mod realm;
#[cfg(test)]
mod tests;

use ciborium::Value;

pub use self::claims::{Claim, Scope};
pub use self::cose::{SignatureAlgorithm, Signed, sign};
pub use self::error::{DecodeError, Token};
pub use self::key::{Curve, KeyError, RealmKey};
pub use self::platform::{
    Lifecycle, LifecycleState, MAX_COMPONENTS, PlatformClaims, PlatformProfile, SoftwareComponent,
};
pub use self::realm::{MecPolicy, RealmClaims, RealmProfile};
use crate::cbor;

/// Largest token that is read, in bytes. Real ones have 1 to 3 KiB; without a bound a sender decides how much memory
/// decoding takes.
pub const MAX_TOKEN_SIZE: usize = 64 * 1024;

const PLATFORM_TOKEN: i64 = 44234;
const REALM_TOKEN: i64 = 44241;
/// CoAP content format of `application/eat+cwt`, the type of both records of a CMW collection.
const EAT_CWT: u64 = 263;

/// How the two tokens are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrapper {
    /// Tag 399 and a map of byte strings: RMM 1.0.
    Tag399,
    /// Tag 907 and a map of `[263, bytes]`, a conceptual message wrapper (CMW) collection: RMM 2.0.
    Tag907,
}

impl Wrapper {
    fn tag(self) -> u64 {
        match self {
            Self::Tag399 => 399,
            Self::Tag907 => 907,
        }
    }
}

/// A decoded token, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CcaToken {
    /// How the two tokens were put together.
    pub wrapper: Wrapper,
    /// What the platform says, signed with the CCA platform attestation key (CPAK).
    pub platform: Signed<PlatformClaims>,
    /// What the monitor says about the Realm, signed with the Realm attestation key (RAK).
    pub realm: Signed<RealmClaims>,
}

impl CcaToken {
    /// Decodes a token.
    ///
    /// # Errors
    ///
    /// Anything that the module's rules forbid, with the claim at fault named.
    pub fn decode(token: &[u8]) -> Result<Self, DecodeError> {
        if token.len() > MAX_TOKEN_SIZE {
            return Err(DecodeError::TooLarge { found: token.len() });
        }
        let (wrapper, platform, realm) = unwrap(token)?;
        let platform = cose::decode(Token::Platform, &platform, PlatformClaims::decode)?;
        let realm = cose::decode(Token::Realm, &realm, RealmClaims::decode)?;
        let (curve, algorithm) = (realm.claims.rak.curve(), realm.algorithm);
        if curve != algorithm.curve() {
            return Err(DecodeError::KeyAlgorithm { curve, algorithm });
        }
        Ok(Self { wrapper, platform, realm })
    }
}

/// Puts an encoded platform token and an encoded Realm token together.
pub fn wrap(wrapper: Wrapper, platform: &[u8], realm: &[u8]) -> Vec<u8> {
    let record = |token: &[u8]| {
        let token = Value::Bytes(token.to_vec());
        match wrapper {
            Wrapper::Tag399 => token,
            Wrapper::Tag907 => Value::Array(vec![EAT_CWT.into(), token]),
        }
    };
    let entries = vec![(PLATFORM_TOKEN.into(), record(platform)), (REALM_TOKEN.into(), record(realm))];
    cbor::write(&Value::Tag(wrapper.tag(), Box::new(Value::Map(entries))))
}

fn unwrap(token: &[u8]) -> Result<(Wrapper, Vec<u8>, Vec<u8>), DecodeError> {
    let Value::Tag(tag, content) = cbor::read(token).map_err(|source| DecodeError::Wrapper { source })?
    else {
        return Err(DecodeError::WrapperTag { found: None });
    };
    let wrapper = [Wrapper::Tag399, Wrapper::Tag907]
        .into_iter()
        .find(|wrapper| wrapper.tag() == tag)
        .ok_or(DecodeError::WrapperTag { found: Some(tag) })?;
    let Value::Map(entries) = *content else { return Err(DecodeError::WrapperContent) };
    let (mut platform, mut realm) = (None, None);
    for (label, record) in entries {
        let (token, slot) = match label.as_integer().and_then(|label| i64::try_from(label).ok()) {
            Some(PLATFORM_TOKEN) => (Token::Platform, &mut platform),
            Some(REALM_TOKEN) => (Token::Realm, &mut realm),
            // Unlike claims, entries of the wrapper are signed by nobody.
            _ => return Err(DecodeError::WrapperEntry),
        };
        let bytes = unwrap_record(wrapper, record).ok_or(DecodeError::WrapperRecord { wrapper, token })?;
        if slot.replace(bytes).is_some() {
            return Err(DecodeError::DuplicateToken { token });
        }
    }
    let platform = platform.ok_or(DecodeError::MissingToken { token: Token::Platform })?;
    let realm = realm.ok_or(DecodeError::MissingToken { token: Token::Realm })?;
    Ok((wrapper, platform, realm))
}

fn unwrap_record(wrapper: Wrapper, record: Value) -> Option<Vec<u8>> {
    match wrapper {
        Wrapper::Tag399 => record.into_bytes().ok(),
        Wrapper::Tag907 => match <[Value; 2]>::try_from(record.into_array().ok()?).ok()? {
            [Value::Integer(kind), Value::Bytes(token)] if kind == EAT_CWT.into() => Some(token),
            _ => None,
        },
    }
}
