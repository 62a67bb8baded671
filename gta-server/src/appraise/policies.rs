//! What policies say: package `verification`, rule `result` with the member `policy_matched`.

use serde_json::Value;
use service_kit::problem::Problem;
use verifier::rego::{Document as Input, RegoCache};

use crate::model::{AttesterType, Policy};
use crate::store::Document;

/// Where a policy puts its result.
pub const ENTRY_POINT: &str = "data.verification.result";

/// What applies to a type of evidence for which a tenant has no default policy.
#[must_use]
pub const fn built_in(kind: AttesterType) -> &'static str {
    match kind {
        AttesterType::TpmBoot => include_str!("../../../policies/gta/tpm_boot.rego"),
        AttesterType::TpmIma => include_str!("../../../policies/gta/tpm_ima.rego"),
    }
}

/// What one policy said.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The policy's id; `default` for the built-in one.
    pub id: String,
    /// Its version; 0 for the built-in one.
    pub version: i64,
    /// Whether it accepts the evidence.
    pub matched: bool,
    /// What else it said.
    pub custom: Option<Value>,
}

/// Evaluates the tenant's default policies for `kind`, or the built-in one, and those that the client named: these can only
/// narrow what is accepted.
pub fn evaluate(
    cache: &RegoCache,
    kind: AttesterType,
    policies: &[Document<Policy>],
    requested: &[String],
    document: &Value,
) -> Result<Vec<Applied>, Problem> {
    let of_kind = |policy: &&Document<Policy>| policy.body.attester_type.contains(&kind);
    let missing: Vec<&String> = requested
        .iter()
        .filter(|id| !policies.iter().filter(of_kind).any(|policy| policy.id == **id))
        .collect();
    if !missing.is_empty() {
        return Err(Problem::bad_request("policy_unknown", format!("Policy not found for ids: {missing:?}")));
    }
    let input = Input::from(document.clone());
    let defaults = policies.iter().filter(of_kind).filter(|policy| policy.body.is_default);
    let named = policies.iter().filter(|policy| !policy.body.is_default && requested.contains(&policy.id));
    let mut applied: Vec<Applied> = Vec::new();
    if defaults.clone().next().is_none() {
        applied.push(run(cache, "default", 0, built_in(kind), &input)?);
    }
    for policy in defaults.chain(named) {
        applied.push(run(cache, &policy.id, policy.version, &policy.body.rego, &input)?);
    }
    Ok(applied)
}

fn run(cache: &RegoCache, id: &str, version: i64, rego: &str, input: &Input) -> Result<Applied, Problem> {
    let failed = |reason: String| Problem::bad_request("policy_error", format!("policy {id}: {reason}"));
    let compiled = cache.get(id, ENTRY_POINT, rego).map_err(|error| failed(error.to_string()))?;
    let result = compiled.evaluate(input).map_err(failed)?;
    let matched = result
        .get("policy_matched")
        .and_then(Value::as_bool)
        .ok_or_else(|| failed("its result has no policy_matched that is true or false".to_owned()))?;
    Ok(Applied { id: id.to_owned(), version, matched, custom: result.get("custom_data").cloned() })
}
