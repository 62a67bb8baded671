//! virtCCA: the pipeline of token verification, one file per step. The types make the order compulsory: each step
//! takes what the steps before it returned.

mod binding;
mod certificate_chain;
mod claims;
mod cvm_signature;
mod decode;
mod lifecycle;
mod platform;
mod platform_signature;
mod platform_software;

use evidence::envelope::VirtccaEvidence;

pub(crate) use platform::DecodedPlatform;

use crate::appraisal::{Appraisal, PlatformTrust};
use crate::guest::reference_values::Matched;
use crate::guest::{nonce, reference_values};
use crate::refusal::{Code, Refusal, Step};
use crate::{Context, input, verdict};
use claims::Shown;

const TEE: &str = "virtcca";

/// Appraises a virtCCA attestation token with its device certificate and its logs.
pub fn appraise(
    evidence: &VirtccaEvidence,
    challenge: &[u8; 64],
    context: &Context<'_>,
) -> Result<Appraisal, Refusal> {
    // That there is none is for its own step to say; evidence that cannot be read is refused before.
    let bundle = context.certificates.bundle();
    let token = decode::decode(&evidence.token, bundle.as_deref().ok())?;
    let device = certificate_chain::verify(&evidence.device_certificate, bundle, context)?;
    let bound = binding::verify(&token, &device, context.policies)?;
    let vouched = platform_signature::verify(&bound, &device, context.signatures)?;
    let cvm = cvm_signature::verify(&token.cvm, &vouched, context.signatures)?;
    let guest = cvm.guest();
    nonce::verify(&guest, challenge)?;
    lifecycle::verify(&vouched, context.policies)?;
    let components = platform_software::verify(&vouched, context.policies)?;
    let Matched { reference, logs } = reference_values::verify(&guest, &evidence.logs, context)?;

    let shown = || {
        let platform = vouched.platform.map(|platform| platform.view(&components)).transpose()?;
        claims::Claims::new(&cvm, platform.as_deref(), &device.device, &reference, &logs).show()
    };
    let Shown { typed, tcb_status, measured } = shown().map_err(|error| {
        let detail = format!("the claims cannot be shown to policies: {error}");
        Refusal::new(Step::Policy, Code::PolicyError, detail)
    })?;
    let converted = [(input::MEASURED, measured)];
    let input = input::document(TEE, typed.clone(), &tcb_status, &converted, &reference, context.references)
        .map_err(|error| Refusal::unavailable(Step::Policy, &error))?;
    let policies = verdict::verify(&input, None, context.policies)?;
    let trust = PlatformTrust::Certificates(device.device);
    Ok(Appraisal { tee: TEE, claims: typed, tcb_status, policies, trust, reference, logs })
}
