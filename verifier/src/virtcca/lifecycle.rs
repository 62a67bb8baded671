//! Step `lifecycle`: the platform is in a state that every policy accepts.

use evidence::token::LifecycleState;

use super::platform_signature::VouchedKey;
use crate::policy::AppraisalPolicy;
use crate::refusal::{Code, Refusal, Step};

/// Looks the state up in every policy. A platform without a Platform Token has no lifecycle; that policies accept it was
/// settled when the key was bound.
pub fn verify(vouched: &VouchedKey<'_>, policies: &[AppraisalPolicy]) -> Result<(), Refusal> {
    let Some(platform) = vouched.platform else { return Ok(()) };
    let lifecycle = platform.signed.claims.lifecycle;
    let allows =
        |policy: &AppraisalPolicy, state: LifecycleState| policy.rules().virtcca.lifecycles.contains(&state);
    let objecting = policies
        .iter()
        .find(|policy| lifecycle.state().is_none_or(|state| !allows(policy, state)))
        .map(AppraisalPolicy::id);
    // An empty list must not read as "every policy allows".
    if policies.is_empty() || objecting.is_some() {
        let detail = format!(
            "lifecycle {lifecycle} is not among those that policy {} accepts: if this platform is to be trusted, add the \
             state to rules.virtcca.lifecycles",
            objecting.unwrap_or("(none)")
        );
        return Err(Refusal::new(Step::Lifecycle, Code::LifecycleNotSecured, detail));
    }
    Ok(())
}
