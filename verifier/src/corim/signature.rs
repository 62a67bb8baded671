//! Who vouches for a document: a signature by a trusted key, or the importer by name.

use corim::types::signed::{CoseAlgorithm, CoseSign1Corim, CwtClaims, SignedCorimBuilder};
use evidence::cca::SignatureAlgorithm;

use super::error::CorimError;
use crate::key::PublicKey;
use crate::signature::SignatureVerifier;

/// A key whose signature on reference values is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct CorimSigner {
    /// The operator's name for it; it becomes part of the provenance.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// What makes a document believable.
#[derive(Clone, Copy, Debug)]
pub enum Authority<'a> {
    /// A signature by one of these keys; an unsigned document is refused.
    Signed(&'a [CorimSigner]),
    /// The importer vouches for unsigned documents. A signature that is there is verified all the same.
    Importer(&'a [CorimSigner]),
}

impl<'a> Authority<'a> {
    const fn signers(self) -> &'a [CorimSigner] {
        match self {
            Self::Signed(signers) | Self::Importer(signers) => signers,
        }
    }
}

/// The name of the trusted signer of `envelope`; `None` for an unsigned document that the importer vouches for.
pub(super) fn verify(
    envelope: Option<&CoseSign1Corim>,
    authority: Authority<'_>,
    signatures: &dyn SignatureVerifier,
) -> Result<Option<String>, CorimError> {
    let Some(envelope) = envelope else {
        return match authority {
            Authority::Signed(_) => Err(CorimError::Unsigned),
            Authority::Importer(_) => Ok(None),
        };
    };
    let header = envelope.protected();
    let refusal = || CorimError::Signature {
        algorithm: header.alg.name().to_owned(),
        key_id: header.kid.as_ref().map_or_else(|| "none".to_owned(), hex::encode),
    };
    let algorithm = algorithm(&header.alg).ok_or_else(refusal)?;
    let message =
        envelope.to_be_signed(&[]).map_err(|_| CorimError::Unsupported("a detached payload".to_owned()))?;
    authority
        .signers()
        .iter()
        .find(|signer| {
            signatures.verify(algorithm, signer.key.sec1_point(), &message, &envelope.signature).is_ok()
        })
        .map(|signer| Some(signer.name.clone()))
        .ok_or_else(refusal)
}

fn algorithm(named: &CoseAlgorithm) -> Option<SignatureAlgorithm> {
    match named {
        CoseAlgorithm::Es256 => Some(SignatureAlgorithm::Es256),
        CoseAlgorithm::Es384 => Some(SignatureAlgorithm::Es384),
        CoseAlgorithm::Es512 => Some(SignatureAlgorithm::Es512),
        _ => None,
    }
}

/// What a signer signs: the COSE `Sig_structure` of `document` with `issuer` as its CWT issuer.
///
/// # Errors
/// [`CorimError::Write`] if the structure cannot be encoded.
pub fn to_be_signed(
    document: &[u8],
    issuer: &str,
    algorithm: SignatureAlgorithm,
) -> Result<Vec<u8>, CorimError> {
    builder(document, issuer, algorithm)
        .to_be_signed(&[])
        .map_err(|error| CorimError::Write(error.to_string()))
}

/// The signed document: `signature` is of [`to_be_signed`] with the same arguments, as r || s.
///
/// # Errors
/// [`CorimError::Write`] if the structure cannot be encoded.
pub fn with_signature(
    document: &[u8],
    issuer: &str,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
) -> Result<Vec<u8>, CorimError> {
    builder(document, issuer, algorithm)
        .build_with_signature(signature)
        .map_err(|error| CorimError::Write(error.to_string()))
}

fn builder(document: &[u8], issuer: &str, algorithm: SignatureAlgorithm) -> SignedCorimBuilder {
    let algorithm = match algorithm {
        SignatureAlgorithm::Es256 => CoseAlgorithm::Es256,
        SignatureAlgorithm::Es384 => CoseAlgorithm::Es384,
        SignatureAlgorithm::Es512 => CoseAlgorithm::Es512,
        SignatureAlgorithm::Ps256 => CoseAlgorithm::Ps256,
    };
    SignedCorimBuilder::new(algorithm, document.to_vec()).set_cwt_claims(CwtClaims::new(issuer))
}
