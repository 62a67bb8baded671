//! Maps of labelled values, each taken at most once.

use std::collections::BTreeMap;
use std::fmt;

use ciborium::Value;

use super::error::{DecodeError, Token};
use crate::hash::{Digest, HashAlgorithm};
use crate::{cbor, quote};

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In the platform token.
    Platform,
    /// In the Realm token.
    Realm,
    /// In the CVM token of virtCCA.
    Cvm,
    /// In a software component of the platform token.
    Component,
}

impl Scope {
    fn token(self) -> Token {
        match self {
            Self::Platform | Self::Component => Token::Platform,
            Self::Realm => Token::Realm,
            Self::Cvm => Token::Cvm,
        }
    }
}

/// A claim that this crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Where it stands.
    pub scope: Scope,
    /// Its label in the map.
    pub label: i64,
    /// Its name, as specifications spell it.
    pub name: &'static str,
}

impl Claim {
    pub(crate) const fn new(scope: Scope, label: i64, name: &'static str) -> Self {
        Self { scope, label, name }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.scope {
            Scope::Platform => "platform",
            Scope::Realm => "Realm",
            Scope::Cvm => "CVM",
            Scope::Component => "component",
        };
        write!(f, "{scope} claim '{}' (label {})", self.name, self.label)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Number(i128),
    Text(String),
}

/// The claims of a map that were not taken yet.
pub(crate) struct Claims(BTreeMap<Label, Value>);

impl Claims {
    /// Reads the payload of a signed token. `known` are the claims that may be taken.
    pub fn read(scope: Scope, payload: &[u8], known: &[Claim]) -> Result<Self, DecodeError> {
        let token = scope.token();
        let value = cbor::read(payload).map_err(|source| DecodeError::Cbor {
            token,
            part: "set of claims",
            source,
        })?;
        match value {
            Value::Map(entries) => Self::collect(scope, entries, known),
            _ => Err(DecodeError::NotClaims { token }),
        }
    }

    /// Takes over the entries of a map. No label may repeat, known or not.
    pub fn collect(scope: Scope, entries: Vec<(Value, Value)>, known: &[Claim]) -> Result<Self, DecodeError> {
        let token = scope.token();
        let mut claims = BTreeMap::new();
        for (label, value) in entries {
            let label = match label {
                Value::Integer(number) => Label::Number(number.into()),
                Value::Text(text) => Label::Text(text),
                _ => return Err(DecodeError::ClaimLabel { token }),
            };
            if claims.insert(label.clone(), value).is_some() {
                return Err(match known.iter().find(|claim| label == Label::Number(claim.label.into())) {
                    Some(claim) => DecodeError::DuplicateClaim { claim: *claim },
                    None => DecodeError::DuplicateLabel { token, label: label.to_string() },
                });
            }
        }
        Ok(Self(claims))
    }

    /// The value of an optional claim.
    pub fn take(&mut self, claim: Claim) -> Option<Value> {
        self.0.remove(&Label::Number(claim.label.into()))
    }

    /// The value of a mandatory claim.
    pub fn require(&mut self, claim: Claim) -> Result<Value, DecodeError> {
        self.take(claim).ok_or(DecodeError::MissingClaim { claim })
    }

    pub fn bytes(&mut self, claim: Claim) -> Result<Vec<u8>, DecodeError> {
        let value = self.require(claim)?;
        value.into_bytes().map_err(|_| DecodeError::ClaimType { claim, expected: "a byte string" })
    }

    pub fn fixed<const N: usize>(
        &mut self,
        claim: Claim,
        expected: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes(claim)?;
        let found = bytes.len();
        bytes.try_into().map_err(|_| DecodeError::ClaimSize { claim, expected, found })
    }

    /// A universal entity ID of the RAND type: 33 bytes, the first one 1.
    pub fn ueid(&mut self, claim: Claim) -> Result<[u8; 33], DecodeError> {
        let id = self.fixed::<33>(claim, "33")?;
        match id.first() {
            Some(1) => Ok(id),
            other => Err(DecodeError::ClaimValue {
                claim,
                expected: "a random UEID, which starts with byte 0x01",
                found: format!("0x{:02x}", other.copied().unwrap_or_default()),
            }),
        }
    }

    pub fn text(&mut self, claim: Claim) -> Result<String, DecodeError> {
        let value = self.require(claim)?;
        value.into_text().map_err(|_| DecodeError::ClaimType { claim, expected: "text" })
    }

    pub fn optional_text(&mut self, claim: Claim) -> Result<Option<String>, DecodeError> {
        self.holds(claim).then(|| self.text(claim)).transpose()
    }

    pub fn integer<T: TryFrom<i128>>(
        &mut self,
        claim: Claim,
        expected: &'static str,
    ) -> Result<T, DecodeError> {
        let value = self.require(claim)?;
        let Value::Integer(number) = value else { return Err(DecodeError::ClaimType { claim, expected }) };
        let number = i128::from(number);
        T::try_from(number).map_err(|_| DecodeError::ClaimValue {
            claim,
            expected,
            found: number.to_string(),
        })
    }

    pub fn hash_algorithm(&mut self, claim: Claim) -> Result<HashAlgorithm, DecodeError> {
        let name = self.text(claim)?;
        hash_algorithm(claim, &name)
    }

    /// As [`Self::hash_algorithm`], from a field of fixed size: NUL characters may follow the name.
    pub fn padded_hash_algorithm(&mut self, claim: Claim) -> Result<HashAlgorithm, DecodeError> {
        let name = self.text(claim)?;
        hash_algorithm(claim, name.trim_end_matches('\0'))
    }

    /// A hash value of any of the allowed lengths.
    pub fn hash(&mut self, claim: Claim) -> Result<Digest, DecodeError> {
        let bytes = self.bytes(claim)?;
        Digest::from_slice(&bytes).ok_or(DecodeError::ClaimSize {
            claim,
            expected: "32, 48 or 64",
            found: bytes.len(),
        })
    }

    pub fn holds(&self, claim: Claim) -> bool {
        self.0.contains_key(&Label::Number(claim.label.into()))
    }
}

fn hash_algorithm(claim: Claim, name: &str) -> Result<HashAlgorithm, DecodeError> {
    HashAlgorithm::from_name(name).ok_or_else(|| DecodeError::ClaimValue {
        claim,
        expected: "sha-256, sha-384 or sha-512",
        found: quote(name),
    })
}

/// The four extensible measurements, values of `algorithm`.
pub(crate) fn measurements(
    claims: &mut Claims,
    claim: Claim,
    algorithm: HashAlgorithm,
) -> Result<[Digest; 4], DecodeError> {
    let wrong = || DecodeError::ClaimType { claim, expected: "an array of exactly 4 byte strings" };
    let values = claims.require(claim)?.into_array().map_err(|_| wrong())?;
    let values = <[Value; 4]>::try_from(values).map_err(|_| wrong())?;
    let mut measurements = [Digest::zero(algorithm); 4];
    for (measurement, value) in measurements.iter_mut().zip(&values) {
        *measurement = hash_of(claim, algorithm, value.as_bytes().ok_or_else(wrong)?)?;
    }
    Ok(measurements)
}

/// A value of `algorithm`, which the token declares elsewhere.
pub(crate) fn hash_of(claim: Claim, algorithm: HashAlgorithm, bytes: &[u8]) -> Result<Digest, DecodeError> {
    Digest::from_slice(bytes).filter(|_| bytes.len() == algorithm.len()).ok_or(DecodeError::HashSize {
        claim,
        algorithm,
        found: bytes.len(),
    })
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(&quote(text)),
        }
    }
}

/// An entry of a claims map.
pub(crate) fn entry(claim: Claim, value: impl Into<Value>) -> (Value, Value) {
    (claim.label.into(), value.into())
}
