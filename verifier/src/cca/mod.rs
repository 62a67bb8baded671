//! Arm CCA: the pipeline of token verification, one file per step. The types make the order compulsory: each
//! step takes what the step before it returned.

mod binding;
mod claims;
mod decode;
mod lifecycle;
mod platform_signature;
mod platform_software;
mod realm_signature;

use evidence::envelope::CcaEvidence;

use crate::appraisal::{Appraisal, PlatformTrust};
use crate::guest::reference_values::Matched;
use crate::guest::{nonce, reference_values};
use crate::refusal::{Code, Refusal, Step};
use crate::rego::Document;
use crate::{Context, input, verdict};

const TEE: &str = "cca";

/// Appraises a CCA attestation token with its logs.
pub fn appraise(
    evidence: &CcaEvidence,
    challenge: &[u8; 64],
    context: &Context<'_>,
) -> Result<Appraisal, Refusal> {
    let token = decode::decode(&evidence.token)?;
    let platform = platform_signature::verify(&token.platform, context.anchors, context.signatures)?;
    let key = binding::verify(&platform, &token.realm.claims)?;
    let realm = realm_signature::verify(&token.realm, &key, context.signatures)?;
    let guest = realm.guest();
    nonce::verify(&guest, challenge)?;
    let lifecycle = lifecycle::verify(&platform, context.policies)?;
    let expected = platform_software::verify(&platform, context.references, context.now)?;
    let Matched { reference, logs } = reference_values::verify(&guest, &evidence.logs, context)?;

    let references = claims::References { realm: &reference, platform: expected.as_ref() };
    let claims =
        claims::Claims::new(realm.0, platform.claims, lifecycle, &platform.anchor, references, &logs);
    let typed = serde_json::to_value(&claims).map(Document::from).map_err(|error| {
        Refusal::new(
            Step::Policy,
            Code::PolicyError,
            format!("the claims cannot be shown to policies: {error}"),
        )
    })?;
    let tcb_status = claims.tcb_status();
    let input = input::document(TEE, typed.clone(), &tcb_status, &[], &reference, context.references)
        .map_err(|error| Refusal::unavailable(Step::Policy, &error))?;
    let policies = verdict::verify(&input, Some(&platform.anchor), context.policies)?;
    let trust = PlatformTrust::Anchor(platform.anchor);
    Ok(Appraisal { tee: TEE, claims: typed, tcb_status, policies, trust, reference, logs })
}
