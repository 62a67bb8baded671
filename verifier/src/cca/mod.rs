//! Arm CCA: the pipeline of token verification, one file per step. The types make the order compulsory: each
//! step takes what the step before it returned.

mod binding;
mod claims;
mod decode;
mod lifecycle;
mod nonce;
mod platform_signature;
mod realm_signature;
mod reference_values;

use crate::appraisal::Appraisal;
use crate::refusal::{Code, Refusal, Step};
use crate::{Context, input, verdict};

const TEE: &str = "cca";

/// Appraises a CCA attestation token.
pub fn appraise(token: &[u8], challenge: &[u8; 64], context: &Context<'_>) -> Result<Appraisal, Refusal> {
    let token = decode::decode(token)?;
    let platform = platform_signature::verify(&token.platform, context.anchors, context.signatures)?;
    let key = binding::verify(&platform, &token.realm.claims)?;
    let realm = realm_signature::verify(&token.realm, &key, context.signatures)?;
    nonce::verify(&realm, challenge)?;
    let lifecycle = lifecycle::verify(&platform, context.policies)?;
    let reference = reference_values::verify(&realm, context.references)?;

    let claims = claims::Claims::new(realm.0, platform.claims, lifecycle, &platform.anchor, &reference);
    let typed = serde_json::to_value(&claims).map_err(|error| {
        Refusal::new(
            Step::Policy,
            Code::PolicyError,
            format!("the claims cannot be shown to policies: {error}"),
        )
    })?;
    let tcb_status = claims.tcb_status();
    let input = input::document(TEE, &typed, &tcb_status, &reference, context.references)
        .map_err(|error| Refusal::unavailable(Step::Policy, &error))?;
    let policies = verdict::verify(&input, &platform.anchor, context.policies)?;
    Ok(Appraisal { tee: TEE, claims: typed, tcb_status, policies, anchor: platform.anchor, reference })
}
