//! Step `platform_software`: the platform's implementation and its firmware are what every policy accepts.

mod degenerate;

use std::collections::BTreeSet;

use evidence::virtcca::{PlatformClaims, SoftwareComponent};
use serde::Serialize;

use super::platform_signature::VouchedKey;
use crate::policy::{AppraisalPolicy, ComponentRule, ComponentRules, HexBytes, Version};
use crate::refusal::{Code, Refusal, Step};

/// What was said of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentResult {
    /// It satisfies the rules of a policy that names its type, and no policy objects.
    Accepted,
    /// No policy names its type; all accept others.
    Unchecked,
}

/// Checks every component against every policy; the results are in the order of the token.
pub fn verify(
    vouched: &VouchedKey<'_>,
    policies: &[AppraisalPolicy],
) -> Result<Vec<ComponentResult>, Refusal> {
    let Some(platform) = vouched.platform.map(|platform| &platform.signed.claims) else {
        return Ok(Vec::new());
    };
    for policy in policies {
        check_implementation(platform, policy)?;
        check_degenerate(platform, policy)?;
        if let Some(rules) = &policy.rules().virtcca.components {
            check_set(platform, policy.id(), rules)?;
        }
    }
    // Without a policy nobody could have allowed a degenerate measurement; the verdict refuses that, too.
    Ok(platform.components.iter().map(|component| result(component, policies)).collect())
}

fn result(component: &SoftwareComponent, policies: &[AppraisalPolicy]) -> ComponentResult {
    let checked = policies.iter().any(|policy| rule(policy, component).is_some());
    if checked { ComponentResult::Accepted } else { ComponentResult::Unchecked }
}

fn rule<'a>(policy: &'a AppraisalPolicy, component: &SoftwareComponent) -> Option<&'a ComponentRule> {
    policy.rules().virtcca.components.as_ref()?.expected.get(&component.kind)
}

fn refuse(code: Code, detail: String) -> Refusal {
    Refusal::new(Step::PlatformSoftware, code, detail)
}

fn check_implementation(platform: &PlatformClaims, policy: &AppraisalPolicy) -> Result<(), Refusal> {
    let Some(allowed) = &policy.rules().virtcca.implementation_ids else { return Ok(()) };
    if allowed.iter().any(|id| id.0 == platform.implementation_id) {
        return Ok(());
    }
    let found = hex::encode(platform.implementation_id);
    let detail = format!("implementation id {found} is not among those that policy {} lists", policy.id());
    Err(refuse(Code::ImplementationNotAllowed, detail))
}

/// A measurement that measures nothing matches whatever the firmware is.
fn check_degenerate(platform: &PlatformClaims, policy: &AppraisalPolicy) -> Result<(), Refusal> {
    let allowed =
        |component: &SoftwareComponent| rule(policy, component).is_some_and(|rule| rule.allow_degenerate);
    let found = platform
        .components
        .iter()
        .find(|component| degenerate::is(&component.measurement) && !allowed(component));
    let Some(component) = found else { return Ok(()) };
    let detail = format!(
        "the measurement {} of component {:?} is zero or the hash of zeros, so it says nothing about the firmware, and \
         policy {} makes no exception for it",
        component.measurement,
        component.kind,
        policy.id()
    );
    Err(refuse(Code::MeasurementDegenerate, detail))
}

/// All objections of one policy at once: whoever has to update firmware wants the whole list.
fn check_set(platform: &PlatformClaims, policy: &str, rules: &ComponentRules) -> Result<(), Refusal> {
    let mut objections = Vec::new();
    let mut seen = BTreeSet::new();
    for component in &platform.components {
        let kind = component.kind.as_str();
        if !seen.insert(kind) {
            objections.push(format!("{kind:?} is there more than once"));
        }
        match rules.expected.get(kind) {
            Some(rule) => objections.extend(
                [
                    check_measurement(component, rule),
                    check_version(component, rule),
                    check_signer(component, rule),
                ]
                .into_iter()
                .flatten(),
            ),
            None if rules.allow_others => {}
            None => objections.push(format!("{kind:?} is not expected")),
        }
    }
    for (kind, rule) in &rules.expected {
        if !rule.optional && !seen.contains(kind.as_str()) {
            objections.push(format!("{kind:?} is missing"));
        }
    }
    if objections.is_empty() {
        return Ok(());
    }
    let detail =
        format!("the platform's software breaks the rules of policy {policy}: {}", objections.join("; "));
    Err(refuse(Code::ComponentNotAllowed, detail))
}

fn check_measurement(component: &SoftwareComponent, rule: &ComponentRule) -> Option<String> {
    let expected = rule.measurements.as_ref()?;
    (!expected.contains(&component.measurement)).then(|| {
        format!("{:?} has the measurement {}, which is not listed", component.kind, component.measurement)
    })
}

fn check_version(component: &SoftwareComponent, rule: &ComponentRule) -> Option<String> {
    let minimum = rule.minimum_version.as_ref()?;
    let (kind, found) = (&component.kind, &component.version);
    match found.parse::<Version>() {
        Ok(version) if version >= *minimum => None,
        Ok(version) => Some(format!("{kind:?} has the version {version}, older than {minimum}")),
        Err(error) => {
            Some(format!("{kind:?} has the version {found:?}, not comparable with {minimum}: {error}"))
        }
    }
}

fn check_signer(component: &SoftwareComponent, rule: &ComponentRule) -> Option<String> {
    let signers = rule.signers.as_ref()?;
    // Nobody is no signer, even if a policy lists an empty name.
    let allowed = |HexBytes(signer): &HexBytes| !signer.is_empty() && *signer == component.signer_id;
    (!signers.iter().any(allowed)).then(|| {
        format!(
            "{:?} is signed by {:?}, who is not listed",
            component.kind,
            hex::encode(&component.signer_id)
        )
    })
}
