//! Arm CCA attestation tokens: a platform token and a Realm token in one wrapper.
//!
//! RMM specification A7.2, draft-ffm-rats-cca-token. The rules that all tokens share are those of [`crate::token`], and
//! its names are found here, too.

mod key;
mod platform;
mod realm;
#[cfg(test)]
mod tests;

pub use self::key::RealmKey;
pub use self::platform::{PlatformClaims, PlatformProfile, SoftwareComponent};
pub use self::realm::{MecPolicy, RealmClaims, RealmProfile};
pub use crate::token::{
    Claim, Curve, DecodeError, KeyError, Lifecycle, LifecycleState, MAX_COMPONENTS, MAX_TOKEN_SIZE, Scope,
    SignatureAlgorithm, Signed, Token, Wrapper, sign,
};
use crate::token::{cose, wrapper};

const WRAPPERS: &[Wrapper] = &[Wrapper::Tag399, Wrapper::Tag907];

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
        let content = wrapper::unwrap(token, WRAPPERS, Token::Realm)?;
        let platform = content.platform.ok_or(DecodeError::MissingToken { token: Token::Platform })?;
        let algorithms = SignatureAlgorithm::CCA;
        let platform = cose::decode(Token::Platform, &platform, algorithms, PlatformClaims::decode)?;
        let realm = cose::decode(Token::Realm, &content.guest, algorithms, RealmClaims::decode)?;
        let (curve, algorithm) = (realm.claims.rak.curve(), realm.algorithm);
        if algorithm.curve() != Some(curve) {
            return Err(DecodeError::KeyAlgorithm { token: Token::Realm, key: curve.name(), algorithm });
        }
        Ok(Self { wrapper: content.wrapper, platform, realm })
    }
}

/// Puts an encoded platform token and an encoded Realm token together.
pub fn wrap(wrapper: Wrapper, platform: &[u8], realm: &[u8]) -> Vec<u8> {
    wrapper::wrap(wrapper, Some(platform), realm)
}
