//! Why bytes are not an attestation token.

use std::fmt;

use thiserror::Error;

use super::claims::Claim;
use super::cose::SignatureAlgorithm;
use super::key::KeyError;
use super::{MAX_COMPONENTS, MAX_TOKEN_SIZE, Wrapper};
use crate::cbor::CborError;
use crate::hash::HashAlgorithm;

/// One of the two signed halves of an attestation token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// Signed by the platform.
    Platform,
    /// Signed by the Realm Management Monitor.
    Realm,
    /// Signed by virtCCA's monitor: what the Realm token is in Arm CCA.
    Cvm,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Platform => "platform token",
            Self::Realm => "Realm token",
            Self::Cvm => "CVM token",
        })
    }
}

/// The bytes are not a token that this crate accepts.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// More bytes than any token needs.
    #[error("the token has {found} bytes; at most {MAX_TOKEN_SIZE} are read")]
    TooLarge {
        /// Bytes given.
        found: usize,
    },
    /// The outermost item is not valid.
    #[error("the token is not valid CBOR")]
    Wrapper {
        /// What is wrong.
        source: CborError,
    },
    /// The outermost item has another tag, or none.
    #[error("the token must start with {}; found {}", list(.allowed), .found.map_or("no tag".to_owned(), |tag| format!("tag {tag}")))]
    WrapperTag {
        /// The wrappers that this kind of token may have.
        allowed: &'static [Wrapper],
        /// The tag.
        found: Option<u64>,
    },
    /// The tag is not on a map.
    #[error("the token's tag must be followed by a map of the platform token and the Realm or CVM token")]
    WrapperContent,
    /// The map has another entry.
    #[error(
        "the token's map may contain only the labels 44234 (platform token) and 44241 (Realm or CVM token)"
    )]
    WrapperEntry,
    /// A token is not packed as the wrapper says.
    #[error("the {token} must be {} under this wrapper", match .wrapper {
        Wrapper::Tag399 => "a byte string",
        Wrapper::Tag907 => "a record [263, byte string]",
    })]
    WrapperRecord {
        /// The wrapper.
        wrapper: Wrapper,
        /// The token at fault.
        token: Token,
    },
    /// A token is there twice.
    #[error("the {token} is there twice")]
    DuplicateToken {
        /// The token at fault.
        token: Token,
    },
    /// A token is not there.
    #[error("the {token} is missing")]
    MissingToken {
        /// The token at fault.
        token: Token,
    },
    /// The signed envelope or the claims are not valid CBOR.
    #[error("the {token}'s {part} is not valid CBOR")]
    Cbor {
        /// The token at fault.
        token: Token,
        /// The part at fault.
        part: &'static str,
        /// What is wrong.
        source: CborError,
    },
    /// The signed envelope is valid CBOR but not a COSE_Sign1.
    #[error("the {token} is not a COSE_Sign1: {reason}")]
    NotSign1 {
        /// The token at fault.
        token: Token,
        /// What is wrong.
        reason: &'static str,
    },
    /// The signed envelope's headers break the rules of RFC 9052.
    #[error("the {token}'s COSE headers are not valid")]
    Cose {
        /// The token at fault.
        token: Token,
        /// What is wrong.
        source: coset::CoseError,
    },
    /// The protected header demands something that is not understood.
    #[error("the {token} has critical COSE header parameters, and none are understood")]
    CriticalHeader {
        /// The token at fault.
        token: Token,
    },
    /// The protected header names no algorithm, or one that is not allowed.
    #[error("the {token}'s protected header must name {} as its algorithm; found {found}", list(.allowed))]
    Algorithm {
        /// The token at fault.
        token: Token,
        /// What it may be.
        allowed: &'static [SignatureAlgorithm],
        /// What was found.
        found: String,
    },
    /// The signature has the wrong size.
    #[error("the {token}'s signature has {found} bytes; {algorithm} signatures have {}", .algorithm.signature_len())]
    SignatureSize {
        /// The token at fault.
        token: Token,
        /// The algorithm of the protected header.
        algorithm: SignatureAlgorithm,
        /// Bytes in the signature.
        found: usize,
    },
    /// The key that a token carries cannot have made a signature of this algorithm.
    #[error("the {token} is signed with {algorithm}, but the key that it carries is of the kind {key}")]
    KeyAlgorithm {
        /// The token at fault.
        token: Token,
        /// The kind of the key, such as `P-384`.
        key: &'static str,
        /// The algorithm of the protected header.
        algorithm: SignatureAlgorithm,
    },
    /// The payload is not a byte string around the claims.
    #[error("the {token}'s payload must be a CBOR byte string that contains the map of claims")]
    NotWrapped {
        /// The token at fault.
        token: Token,
    },
    /// The signed content is not a map.
    #[error("the {token}'s claims must be a map")]
    NotClaims {
        /// The token at fault.
        token: Token,
    },
    /// A label that is neither a number nor text.
    #[error("the {token} has a claim whose label is neither an integer nor text")]
    ClaimLabel {
        /// The token at fault.
        token: Token,
    },
    /// The same label twice, though not one of those that are read.
    #[error("the {token} has two claims with the label {label}")]
    DuplicateLabel {
        /// The token at fault.
        token: Token,
        /// The label.
        label: String,
    },
    /// A claim is there twice.
    #[error("{claim} is there twice")]
    DuplicateClaim {
        /// The claim at fault.
        claim: Claim,
    },
    /// A mandatory claim is not there.
    #[error("{claim} is missing")]
    MissingClaim {
        /// The claim at fault.
        claim: Claim,
    },
    /// A claim is of the wrong type.
    #[error("{claim} must be {expected}")]
    ClaimType {
        /// The claim at fault.
        claim: Claim,
        /// The type that it must have.
        expected: &'static str,
    },
    /// A claim has the wrong size.
    #[error("{claim} must have {expected} bytes; found {found}")]
    ClaimSize {
        /// The claim at fault.
        claim: Claim,
        /// The sizes that it may have.
        expected: &'static str,
        /// Bytes found.
        found: usize,
    },
    /// A claim has the right type and a value that is not allowed.
    #[error("{claim} must be {expected}; found {found}")]
    ClaimValue {
        /// The claim at fault.
        claim: Claim,
        /// What it may be.
        expected: &'static str,
        /// What it is, shortened.
        found: String,
    },
    /// A hash value does not have the length of the algorithm that the token declares.
    #[error("{claim} has {found} bytes, but the token declares {algorithm}, whose values have {}", .algorithm.len())]
    HashSize {
        /// The claim at fault.
        claim: Claim,
        /// The declared algorithm.
        algorithm: HashAlgorithm,
        /// Bytes found.
        found: usize,
    },
    /// The key that a token carries is not valid.
    #[error("{claim} is not a valid key")]
    Key {
        /// The claim at fault.
        claim: Claim,
        /// What is wrong.
        source: KeyError,
    },
    /// No software component, or far too many.
    #[error("{claim} must list 1 to {MAX_COMPONENTS} components; found {found}")]
    ComponentCount {
        /// The claim at fault.
        claim: Claim,
        /// Components found.
        found: usize,
    },
    /// A software component is not valid.
    #[error("software component {index} (counting from 0) is not valid")]
    Component {
        /// Position in the list.
        index: usize,
        /// What is wrong.
        source: Box<DecodeError>,
    },
}

fn list<T: fmt::Display>(allowed: &[T]) -> String {
    let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
