//! Attestation keys.

use evidence::bank::Bank;
use evidence::tpm::{AsymmetricKey, Attributes, EccCurve, Public, Scheme, SignatureScheme, Symmetric};

use crate::command::Tpm;
use crate::{Auth, Error, Handle};

/// What a new attestation key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AkAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    EcdsaP256,
    /// RSASSA-PSS with 2048 bits and SHA-256.
    RsaPss2048,
    /// RSASSA-PKCS1-v1_5 with 2048 bits and SHA-256.
    RsaSsa2048,
}

/// A key that signs nothing but what its TPM says of itself.
const ATTRIBUTES: Attributes = Attributes::FIXED_TPM
    .and(Attributes::FIXED_PARENT)
    .and(Attributes::SENSITIVE_DATA_ORIGIN)
    .and(Attributes::USER_WITH_AUTH)
    .and(Attributes::RESTRICTED)
    .and(Attributes::SIGN);

impl AkAlgorithm {
    /// The template: the seed of the endorsement hierarchy gives one key for it.
    fn template(self) -> Public {
        let (scheme, key) = match self {
            Self::EcdsaP256 => (
                SignatureScheme::Ecdsa,
                AsymmetricKey::Ecc { curve: EccCurve::P256, x: Vec::new(), y: Vec::new() },
            ),
            Self::RsaPss2048 | Self::RsaSsa2048 => (
                if self == Self::RsaPss2048 { SignatureScheme::RsaPss } else { SignatureScheme::RsaSsa },
                AsymmetricKey::Rsa { bits: 2048, exponent: 0, modulus: Vec::new() },
            ),
        };
        Public {
            name_algorithm: Bank::Sha256,
            attributes: ATTRIBUTES,
            auth_policy: Vec::new(),
            symmetric: Symmetric::Null,
            scheme: Scheme::Sign(scheme, Bank::Sha256),
            key,
        }
    }
}

/// An attestation key at a persistent handle.
#[derive(Clone, Debug)]
pub struct AttestationKey {
    /// Where it is.
    pub handle: Handle,
    /// What it is.
    pub public: Public,
    /// What its signatures hash with.
    pub hash: Bank,
}

/// The attestation key at `handle`; if there is nothing, it is made, by `algorithm`, and kept there.
///
/// A key that is made is a primary key of the endorsement hierarchy, so that it is the same one whenever it has to be made
/// again.
///
/// # Errors
/// [`Error::Occupied`] if there is something else.
pub fn ensure_attestation_key(
    tpm: &mut Tpm,
    handle: Handle,
    algorithm: AkAlgorithm,
    endorsement: &Auth,
    owner: &Auth,
) -> Result<AttestationKey, Error> {
    if !handle.is_persistent_of_owner() {
        return Err(Error::NotPersistent { handle });
    }
    let found = match tpm.read_public(handle) {
        // A key of a kind that is not read here cannot be the attestation key.
        Err(Error::Answer(_)) => return Err(Error::Occupied { handle }),
        found => found?,
    };
    let public = match found {
        Some(public) => public,
        None => {
            let made = tpm.create_primary(Handle::ENDORSEMENT, endorsement, &algorithm.template())?;
            let kept = tpm.persist(made.handle, handle, owner);
            tpm.then_flush(made.handle, kept)?;
            made.public
        }
    };
    let restricted = Attributes::RESTRICTED.and(Attributes::SIGN).and(Attributes::FIXED_TPM);
    match public.scheme {
        Scheme::Sign(_, hash)
            if public.attributes.has(restricted) && !public.attributes.has(Attributes::DECRYPT) =>
        {
            Ok(AttestationKey { handle, public, hash })
        }
        _ => Err(Error::Occupied { handle }),
    }
}
