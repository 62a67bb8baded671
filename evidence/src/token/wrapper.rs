//! How the two tokens are put together.

use std::fmt;

use ciborium::Value;

use super::MAX_TOKEN_SIZE;
use super::error::{DecodeError, Token};
use crate::cbor;

const PLATFORM_TOKEN: i64 = 44234;
/// The Realm token of Arm CCA, the CVM token of virtCCA.
const GUEST_TOKEN: i64 = 44241;
/// CoAP content format of `application/eat+cwt`, the type of both records of a CMW collection.
const EAT_CWT: u64 = 263;

/// How the two tokens are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrapper {
    /// Tag 399 and a map of byte strings: RMM 1.0, virtCCA.
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

impl fmt::Display for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CBOR tag {}", self.tag())
    }
}

/// The contents of a wrapper.
pub(crate) struct Unwrapped {
    pub wrapper: Wrapper,
    pub platform: Option<Vec<u8>>,
    pub guest: Vec<u8>,
}

/// Takes a token apart; `guest` is what the token of the guest is called.
pub(crate) fn unwrap(
    token: &[u8],
    allowed: &'static [Wrapper],
    guest: Token,
) -> Result<Unwrapped, DecodeError> {
    if token.len() > MAX_TOKEN_SIZE {
        return Err(DecodeError::TooLarge { found: token.len() });
    }
    let Value::Tag(tag, content) = cbor::read(token).map_err(|source| DecodeError::Wrapper { source })?
    else {
        return Err(DecodeError::WrapperTag { allowed, found: None });
    };
    let wrapper = allowed
        .iter()
        .copied()
        .find(|wrapper| wrapper.tag() == tag)
        .ok_or(DecodeError::WrapperTag { allowed, found: Some(tag) })?;
    let Value::Map(entries) = *content else { return Err(DecodeError::WrapperContent) };
    let (mut platform_bytes, mut guest_bytes) = (None, None);
    for (label, record) in entries {
        let (token, slot) = match label.as_integer().and_then(|label| i64::try_from(label).ok()) {
            Some(PLATFORM_TOKEN) => (Token::Platform, &mut platform_bytes),
            Some(GUEST_TOKEN) => (guest, &mut guest_bytes),
            // Unlike claims, entries of the wrapper are signed by nobody.
            _ => return Err(DecodeError::WrapperEntry),
        };
        let bytes = unwrap_record(wrapper, record).ok_or(DecodeError::WrapperRecord { wrapper, token })?;
        if slot.replace(bytes).is_some() {
            return Err(DecodeError::DuplicateToken { token });
        }
    }
    let guest = guest_bytes.ok_or(DecodeError::MissingToken { token: guest })?;
    Ok(Unwrapped { wrapper, platform: platform_bytes, guest })
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

/// Puts encoded tokens together.
pub(crate) fn wrap(wrapper: Wrapper, platform: Option<&[u8]>, guest: &[u8]) -> Vec<u8> {
    let record = |token: &[u8]| {
        let token = Value::Bytes(token.to_vec());
        match wrapper {
            Wrapper::Tag399 => token,
            Wrapper::Tag907 => Value::Array(vec![EAT_CWT.into(), token]),
        }
    };
    let mut entries = Vec::new();
    entries.extend(platform.map(|platform| (PLATFORM_TOKEN.into(), record(platform))));
    entries.push((GUEST_TOKEN.into(), record(guest)));
    cbor::write(&Value::Tag(wrapper.tag(), Box::new(Value::Map(entries))))
}
