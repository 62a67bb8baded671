//! Step `cvm_signature`: the CVM token is signed by the key that the platform vouches for.

use evidence::token::Signed;
use evidence::virtcca::CvmClaims;

use super::platform_signature::VouchedKey;
use crate::guest::AttestedGuest;
use crate::refusal::{Code, Refusal, Step};
use crate::signature::SignatureVerifier;

/// CVM claims whose signature was verified with a key that a device vouches for.
pub struct TrustedCvm<'a>(pub &'a CvmClaims);

impl TrustedCvm<'_> {
    /// What is asked of every guest.
    pub const fn guest(&self) -> AttestedGuest<'_> {
        let claims = self.0;
        AttestedGuest {
            challenge: &claims.challenge,
            hash: claims.hash,
            rim: claims.rim,
            rpv: &claims.rpv,
            rems: &claims.rems,
        }
    }
}

/// Verifies the CVM token with the attested key.
pub fn verify<'a>(
    cvm: &'a Signed<CvmClaims>,
    vouched: &VouchedKey<'_>,
    signatures: &dyn SignatureVerifier,
) -> Result<TrustedCvm<'a>, Refusal> {
    signatures
        .verify(cvm.algorithm, vouched.key.claim_bytes(), cvm.to_be_signed(), cvm.signature())
        .map_err(|_| {
            let detail =
                format!("the CVM token does not verify with the {} key that it carries", vouched.key.kind());
            Refusal::new(Step::CvmSignature, Code::CvmSignatureInvalid, detail)
        })?;
    Ok(TrustedCvm(&cvm.claims))
}
