//! COSE_Sign1 (RFC 9052 section 4.2), the envelope of every token.

use std::fmt;

use ciborium::Value;
use coset::iana::{self, EnumI64};
use coset::{
    AsCborValue, CoseSign1, CoseSign1Builder, HeaderBuilder, RegisteredLabelWithPrivate,
    TaggedCborSerializable,
};

use super::error::{DecodeError, Token};
use super::key::Curve;
use crate::cbor;

/// Largest protected header, in bytes; `{1: -35}` takes 4. Headers may contain signed headers that contain headers:
/// without a bound, a token of legal size would exhaust the stack of the decoder.
const MAX_PROTECTED_HEADER: usize = 256;

/// A signature algorithm that tokens may use (RFC 9053 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes (RFC 8230 section 2), here always with RSA-4096: virtCCA has no
    /// other RSA keys.
    Ps256,
}

impl SignatureAlgorithm {
    /// What signs the tokens of Arm CCA.
    pub(crate) const CCA: &[Self] = &[Self::Es256, Self::Es384, Self::Es512];
    /// What signs the tokens of virtCCA.
    pub(crate) const VIRTCCA: &[Self] = &[Self::Es256, Self::Es384, Self::Es512, Self::Ps256];

    /// Bytes in a signature. One of ECDSA is r followed by s.
    pub fn signature_len(self) -> usize {
        self.curve().map_or(512, |curve| 2 * curve.coordinate_len())
    }

    /// The curve that this crate requires with the algorithm, if it is one of ECDSA. COSE leaves it open; tokens do not
    /// mix them.
    pub fn curve(self) -> Option<Curve> {
        match self {
            Self::Es256 => Some(Curve::P256),
            Self::Es384 => Some(Curve::P384),
            Self::Es512 => Some(Curve::P521),
            Self::Ps256 => None,
        }
    }

    fn cose(self) -> iana::Algorithm {
        match self {
            Self::Es256 => iana::Algorithm::ES256,
            Self::Es384 => iana::Algorithm::ES384,
            Self::Es512 => iana::Algorithm::ES512,
            Self::Ps256 => iana::Algorithm::PS256,
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
        })
    }
}

/// Claims with their signature, which has **not** been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<C> {
    /// What is claimed.
    pub claims: C,
    /// The algorithm of the protected header.
    pub algorithm: SignatureAlgorithm,
    to_be_signed: Vec<u8>,
    signature: Vec<u8>,
}

impl<C> Signed<C> {
    /// The bytes under the signature: the encoded `Sig_structure` (RFC 9052 section 4.4), with empty external data.
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// The signature, of the algorithm's size.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// Decodes a tagged COSE_Sign1 of one of the algorithms `allowed`, and its payload with `claims`.
pub(crate) fn decode<C>(
    token: Token,
    bytes: &[u8],
    allowed: &'static [SignatureAlgorithm],
    claims: impl FnOnce(&[u8]) -> Result<C, DecodeError>,
) -> Result<Signed<C>, DecodeError> {
    let sign1 = read(token, bytes)?;
    let header = &sign1.protected.header;
    if !header.crit.is_empty() {
        return Err(DecodeError::CriticalHeader { token });
    }
    let algorithm = allowed
        .iter()
        .copied()
        .find(|algorithm| header.alg == Some(RegisteredLabelWithPrivate::Assigned(algorithm.cose())))
        .ok_or_else(|| DecodeError::Algorithm { token, allowed, found: describe(header.alg.as_ref()) })?;
    let found = sign1.signature.len();
    if found != algorithm.signature_len() {
        return Err(DecodeError::SignatureSize { token, algorithm, found });
    }
    let payload = sign1
        .payload
        .as_deref()
        .ok_or(DecodeError::NotSign1 { token, reason: "the payload must not be detached" })?;
    let claims = claims(payload)?;
    Ok(Signed { claims, algorithm, to_be_signed: sign1.tbs_data(&[]), signature: sign1.signature })
}

fn read(token: Token, bytes: &[u8]) -> Result<CoseSign1, DecodeError> {
    let invalid = |reason| DecodeError::NotSign1 { token, reason };
    let value = cbor::read(bytes).map_err(|source| DecodeError::Cbor {
        token,
        part: "COSE_Sign1 envelope",
        source,
    })?;
    let Value::Tag(CoseSign1::TAG, content) = value else { return Err(invalid("it must have CBOR tag 18")) };
    let fields = content.into_array().map_err(|_| invalid("the tag must be on an array"))?;
    let [protected, unprotected, payload, signature] =
        <[Value; 4]>::try_from(fields).map_err(|_| invalid("the array must have 4 elements"))?;
    let header = protected.as_bytes().ok_or(invalid("the protected header must be a byte string"))?;
    if header.len() > MAX_PROTECTED_HEADER {
        return Err(invalid("the protected header is larger than 256 bytes"));
    }
    if !header.is_empty() {
        cbor::read(header).map_err(|source| DecodeError::Cbor { token, part: "protected header", source })?;
    }
    if !unprotected.is_map() {
        return Err(invalid("the unprotected header must be a map"));
    }
    // Nobody signs the unprotected header and nothing in it is used, so it is not interpreted.
    let fields = vec![protected, Value::Map(Vec::new()), payload, signature];
    CoseSign1::from_cbor_value(Value::Array(fields)).map_err(|source| DecodeError::Cose { token, source })
}

fn describe(algorithm: Option<&coset::Algorithm>) -> String {
    match algorithm {
        None => "none".to_owned(),
        Some(RegisteredLabelWithPrivate::Assigned(algorithm)) => {
            format!("{algorithm:?} ({})", algorithm.to_i64())
        }
        Some(RegisteredLabelWithPrivate::PrivateUse(number)) => number.to_string(),
        Some(RegisteredLabelWithPrivate::Text(text)) => crate::quote(text),
    }
}

/// Makes a tagged COSE_Sign1 of `payload`. `signer` gets the bytes to be signed and returns the signature;
/// one of ECDSA is r followed by s.
///
/// # Errors
///
/// Those of `signer`.
#[expect(clippy::expect_used, reason = "the header and the payload are ours, and memory takes every write")]
pub fn sign<E>(
    payload: &[u8],
    algorithm: SignatureAlgorithm,
    signer: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let sign1 = CoseSign1Builder::new()
        .protected(HeaderBuilder::new().algorithm(algorithm.cose()).build())
        .payload(payload.to_vec())
        .try_create_signature(&[], signer)?
        .build();
    Ok(sign1.to_tagged_vec().expect("a COSE_Sign1 that was built is serialisable"))
}
