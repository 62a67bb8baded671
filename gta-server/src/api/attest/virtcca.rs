//! Evidence of a virtCCA machine.

use evidence::envelope::VirtccaEvidence;
use service_kit::problem::Problem;
use verifier::Code;

use super::{Rejected, Submission};
use crate::api::certs::authorities;
use crate::api::leisure::at_leisure;
use crate::api::ref_values;
use crate::api::refusal::refused;
use crate::api::result::Outcome;
use crate::appraise::virtcca::{Expected, appraise, rules};
use crate::appraise::{Evidence, evaluate, without_requested};
use crate::health::Reason;
use crate::model::{CertType, Policy};
use crate::service::Shared;
use crate::store::Document;

/// What came of the evidence, why it would not be accepted whatever was asked for, and the UEID of the platform if it
/// is accepted.
pub async fn attest(
    service: &Shared,
    submission: Submission<'_>,
) -> Result<(Outcome, Option<Reason>, Option<String>), Rejected> {
    let (kind, tenant, now) = (submission.kind, submission.tenant, service.now());
    let malformed = |reason: String| Problem::bad_request(Code::EvidenceMalformed.as_str(), reason);
    let Evidence::Unread(json) = submission.evidence else {
        return Err(malformed("this is evidence of a TPM".to_owned()).into());
    };
    let evidence = VirtccaEvidence::from_gta_json(json.get().as_bytes())
        .map_err(|error| malformed(error.to_string()))?;
    // Tokens have 64 bytes of challenge. Were the rest of them left alone, another protocol's tokens could answer ours.
    let mut challenge = [0; 64];
    for (byte, bound) in challenge.iter_mut().zip(submission.qualifying) {
        *byte = *bound;
    }
    let authorities = authorities(service, tenant, CertType::VirtCca).await?;
    let realms = ref_values::realms(service, tenant).await?;
    let (shared, policies) = (Shared::clone(service), submission.policies);
    at_leisure(move || {
        let judge = |policies: &[Document<Policy>]| {
            let rules = rules(&shared.rego, policies).map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "policy of the server");
                Problem::unavailable("appraisal_failed", "the appraisal did not finish")
            })?;
            let expected = Expected {
                challenge: &challenge,
                authorities: &authorities,
                realms: &realms,
                rules: &rules,
                now,
            };
            let appraised = appraise(&evidence, &expected).map_err(refused)?;
            let applied = evaluate(&shared.rego, kind, policies, &appraised.judged)
                .map_err(|error| Rejected::without_verdict(kind, error))?;
            Ok::<_, Rejected>((Outcome::new(kind, appraised.judged, applied), appraised.ueid))
        };
        let Some(defaults) = without_requested(&policies) else {
            let (outcome, ueid) = judge(&policies)?;
            let reason = outcome.reason();
            return Ok((outcome, reason, ueid));
        };
        // Typed rules of policies that were asked for take part in the appraisal itself.
        let (by_default, _) = judge(&defaults)?;
        let (outcome, ueid) = judge(&policies).map_err(|rejected| Rejected::AsAsked(rejected.problem()))?;
        Ok((outcome, by_default.reason(), ueid))
    })
    .await
}
