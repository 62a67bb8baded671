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
        let content = wrapper::unwrap(token, WRAPPERS, Token::Cvm)?;
        let algorithms = SignatureAlgorithm::VIRTCCA;
        let decode =
            |token: Vec<u8>| cose::decode(Token::Platform, &token, algorithms, PlatformClaims::decode);
        let platform = content.platform.map(decode).transpose()?;
        let cvm = cose::decode(Token::Cvm, &content.guest, algorithms, CvmClaims::decode)?;
        let (key, algorithm) = (&cvm.claims.key, cvm.algorithm);
        if algorithm != key.algorithm() {
            return Err(DecodeError::KeyAlgorithm { token: Token::Cvm, key: key.kind(), algorithm });
        }
        Ok(Self { platform, cvm })
    }
}

/// Puts an encoded CVM token together with an encoded Platform Token, if there is one.
pub fn wrap(platform: Option<&[u8]>, cvm: &[u8]) -> Vec<u8> {
    wrapper::wrap(Wrapper::Tag399, platform, cvm)
}
