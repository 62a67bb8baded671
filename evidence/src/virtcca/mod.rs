//! virtCCA attestation tokens: a CVM token, and on newer platforms a Platform Token, in one wrapper.
//!
//! Formats of Arm CCA with differences: the CVM token's claims are wrapped twice, its key is a bare P-521 point or an RSA
//! key, the Platform Token may be absent. Source: `attestation-service/verifier/src/virtcca` of secGear and the samples of
//! the virtCCA SDK. The rules that all tokens share are those of [`crate::token`].

mod cvm;
mod platform;
#[cfg(test)]
mod tests;

pub use self::cvm::{CvmClaims, CvmKey};
pub use self::platform::{PlatformClaims, SoftwareComponent};
use crate::token::{DecodeError, SignatureAlgorithm, Signed, Token, Wrapper, cose, wrapper};

const WRAPPERS: &[Wrapper] = &[Wrapper::Tag399];

/// A decoded token, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtccaToken {
    /// What the platform says, signed with the device's key; older platforms say nothing.
    pub platform: Option<Signed<PlatformClaims>>,
    /// What the monitor says about the CVM, signed with the key that it carries.
    pub cvm: Signed<CvmClaims>,
}

impl VirtccaToken {
    /// Decodes a token.
    ///
    /// # Errors
    ///
    /// Anything that the module's rules forbid, with the claim at fault named.
    pub fn decode(token: &[u8]) -> Result<Self, DecodeError> {
        let Halves { platform, cvm } = Halves::split(token)?;
        Ok(Self {
            platform: platform.as_deref().map(PlatformClaims::decode_signed).transpose()?,
            cvm: CvmClaims::decode_signed(&cvm)?,
        })
    }
}

/// A token taken apart, with neither half decoded: for whoever has decoded the same Platform Token before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halves {
    /// The Platform Token, for [`PlatformClaims::decode_signed`].
    pub platform: Option<Vec<u8>>,
    /// The CVM token, for [`CvmClaims::decode_signed`].
    pub cvm: Vec<u8>,
}

impl Halves {
    /// Takes the wrapper off.
    ///
    /// # Errors
    ///
    /// A wrapper that is malformed, too large, or without a CVM token.
    pub fn split(token: &[u8]) -> Result<Self, DecodeError> {
        let content = wrapper::unwrap(token, WRAPPERS, Token::Cvm)?;
        Ok(Self { platform: content.platform, cvm: content.guest })
    }
}

impl PlatformClaims {
    /// Decodes a Platform Token.
    ///
    /// # Errors
    ///
    /// As [`VirtccaToken::decode`].
    pub fn decode_signed(token: &[u8]) -> Result<Signed<Self>, DecodeError> {
        cose::decode(Token::Platform, token, SignatureAlgorithm::VIRTCCA, Self::decode)
    }
}

impl CvmClaims {
    /// Decodes a CVM token.
    ///
    /// # Errors
    ///
    /// As [`VirtccaToken::decode`].
    pub fn decode_signed(token: &[u8]) -> Result<Signed<Self>, DecodeError> {
        let cvm = cose::decode(Token::Cvm, token, SignatureAlgorithm::VIRTCCA, Self::decode)?;
        let (key, algorithm) = (&cvm.claims.key, cvm.algorithm);
        if algorithm != key.algorithm() {
            return Err(DecodeError::KeyAlgorithm { token: Token::Cvm, key: key.kind(), algorithm });
        }
        Ok(cvm)
    }
}

/// Puts an encoded CVM token together with an encoded Platform Token, if there is one.
pub fn wrap(platform: Option<&[u8]>, cvm: &[u8]) -> Vec<u8> {
    wrapper::wrap(Wrapper::Tag399, platform, cvm)
}
