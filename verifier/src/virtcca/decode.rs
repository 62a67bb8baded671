//! Step `decode`: the bytes are a virtCCA token.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use evidence::token::{DecodeError, Signed};
use evidence::virtcca::{CvmClaims, Halves};

use super::platform::DecodedPlatform;
use crate::chain::TrustBundle;
use crate::refusal::{Code, Refusal, Step, sentence};

/// Largest Platform Token that is kept decoded, in bytes: real ones have 1 to 3 KiB. Without the bound whoever owns a device
/// would decide how much memory the kept ones take.
const MAX_KEPT: usize = 8 * 1024;

/// A decoded token, not yet verified.
pub struct Token {
    pub platform: Option<PlatformToken>,
    pub cvm: Signed<CvmClaims>,
}

/// A decoded Platform Token, not yet verified in this appraisal, wherever it came from.
pub struct PlatformToken {
    pub decoded: Arc<DecodedPlatform>,
    /// SHA-256 of the bytes, if they were decoded just now and are worth keeping.
    fresh: Option<[u8; 32]>,
}

impl PlatformToken {
    /// Bytes that were decoded before are not decoded again: decoding depends on nothing but them.
    fn decode(bytes: &[u8], bundle: Option<&TrustBundle>) -> Result<Self, DecodeError> {
        let Some(bundle) = bundle.filter(|_| bytes.len() <= MAX_KEPT) else {
            return Ok(Self { decoded: Arc::new(DecodedPlatform::decode(bytes)?), fresh: None });
        };
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, bytes).as_ref());
        if let Some(decoded) = bundle.platform_token(&key) {
            return Ok(Self { decoded, fresh: None });
        }
        Ok(Self { decoded: Arc::new(DecodedPlatform::decode(bytes)?), fresh: Some(key) })
    }

    /// Keeps the token decoded. Only for one that verifies: otherwise anybody could drive out those of real platforms.
    pub fn keep(&self, bundle: &TrustBundle) {
        if let Some(key) = self.fresh {
            bundle.keep_platform_token(key, Arc::clone(&self.decoded));
        }
    }
}

/// Reads the CVM token and the Platform Token, if there is one; `bundle` may have it decoded.
pub fn decode(token: &[u8], bundle: Option<&TrustBundle>) -> Result<Token, Refusal> {
    let decode = || {
        let Halves { platform, cvm } = Halves::split(token)?;
        let platform = platform.map(|platform| PlatformToken::decode(&platform, bundle)).transpose()?;
        Ok(Token { platform, cvm: CvmClaims::decode_signed(&cvm)? })
    };
    decode().map_err(|error: DecodeError| {
        let detail = format!("not a virtCCA token: {}", sentence(&error));
        Refusal::new(Step::Decode, Code::EvidenceMalformed, detail)
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use evidence::hash::{Digest, HashAlgorithm};
    use evidence::token::{Lifecycle, SignatureAlgorithm, sign};
    use evidence::virtcca::{PlatformClaims, SoftwareComponent};

    use super::*;

    const SIGNATURE: [u8; 132] = [7; 132];

    fn claims(config: usize) -> PlatformClaims {
        PlatformClaims {
            profile: String::new(),
            challenge: Digest::zero(HashAlgorithm::Sha256),
            implementation_id: [1; 32],
            instance_id: [1; 33],
            config: vec![0xcf; config],
            lifecycle: Lifecycle(0x3000),
            components: vec![SoftwareComponent {
                kind: "tf_bl2".to_owned(),
                measurement: HashAlgorithm::Sha256.digest(b"bl2"),
                version: "1".to_owned(),
                signer_id: Vec::new(),
                hash: None,
            }],
            verification_service: String::new(),
            hash: HashAlgorithm::Sha256,
        }
    }

    fn token(config: usize) -> Vec<u8> {
        let Ok(token) = sign::<Infallible>(&claims(config).encode(), SignatureAlgorithm::Es512, |_| {
            Ok(SIGNATURE.to_vec())
        });
        token
    }

    #[test]
    fn a_platform_token_is_kept_once_it_was_verified_and_not_before() {
        let bundle = TrustBundle::empty();
        let decode = |bytes: &[u8]| PlatformToken::decode(bytes, Some(&bundle)).unwrap();
        let bytes = token(32);
        let first = decode(&bytes);
        assert!(!Arc::ptr_eq(&first.decoded, &decode(&bytes).decoded));
        first.keep(&bundle);
        assert!(Arc::ptr_eq(&first.decoded, &decode(&bytes).decoded));
        let other = decode(&token(33));
        assert_eq!(other.decoded.signed.claims, claims(33));
        assert!(!Arc::ptr_eq(&first.decoded, &PlatformToken::decode(&bytes, None).unwrap().decoded));
    }

    #[test]
    fn a_large_platform_token_is_not_kept() {
        let bundle = TrustBundle::empty();
        let bytes = token(MAX_KEPT);
        let first = PlatformToken::decode(&bytes, Some(&bundle)).unwrap();
        first.keep(&bundle);
        assert!(!Arc::ptr_eq(&first.decoded, &PlatformToken::decode(&bytes, Some(&bundle)).unwrap().decoded));
    }
}
