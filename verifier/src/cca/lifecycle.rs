//! Step `lifecycle`: the platform is in a state in which it keeps its promises.

use super::platform_signature::TrustedPlatform;
use evidence::cca::LifecycleState;

use crate::policy::AppraisalPolicy;
use crate::refusal::{Code, Refusal, Step};

/// Requires the secured lifecycle, or in every policy an exception for this anchor and this state.
pub fn verify(
    platform: &TrustedPlatform<'_>,
    policies: &[AppraisalPolicy],
) -> Result<LifecycleState, Refusal> {
    let lifecycle = platform.claims.lifecycle;
    let state = lifecycle.state().unwrap_or(LifecycleState::Unknown);
    if state == LifecycleState::Secured {
        return Ok(state);
    }
    let name = &platform.anchor.name;
    // An empty list must not read as "every policy allows".
    let objecting =
        policies.iter().find(|policy| !policy.allows_lifecycle(name, state)).map(AppraisalPolicy::id);
    if policies.is_empty() || objecting.is_some() {
        return Err(Refusal::new(
            Step::Lifecycle,
            Code::LifecycleNotSecured,
            format!(
                "lifecycle {lifecycle} is not secured (0x3000 to 0x30ff) and policy {} makes no \
                 exception for trust anchor {name} in this state",
                objecting.unwrap_or("(none)")
            ),
        ));
    }
    Ok(state)
}
