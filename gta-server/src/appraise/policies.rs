//! What policies say: package `verification`, rule `result` with the member `policy_matched`.

use serde_json::Value;
use service_kit::problem::Problem;
use verifier::logs::LogRules;
use verifier::rego::{Document as Input, RegoCache};

use super::Judged;
use crate::model::{AttesterType, Policy};
use crate::store::Document;

/// Where a policy puts its result.
pub const ENTRY_POINT: &str = "data.verification.result";

/// The id of the policies that tenants have without having registered them.
pub const BUILT_IN: &str = "default";

/// What applies to a type of evidence for which a tenant has no default policy.
#[must_use]
pub const fn built_in(kind: AttesterType) -> &'static str {
    match kind {
        AttesterType::TpmBoot => include_str!("../../../policies/gta/tpm_boot.rego"),
        AttesterType::TpmIma => include_str!("../../../policies/gta/tpm_ima.rego"),
        AttesterType::VirtCca => include_str!("../../../policies/gta/virt_cca.rego"),
    }
}

/// What one policy said.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The policy's id; [`BUILT_IN`] for the built-in one.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version; 0 for the built-in one.
    pub version: i64,
    /// Whether it applies to all evidence of its type, and not only because the client named it.
    pub is_default: bool,
    /// Whether it accepts the evidence.
    pub matched: bool,
    /// The lines at which it stopped, if it does not.
    pub stopped_at: Vec<u32>,
    /// What else it said.
    pub custom: Option<Value>,
}

/// A policy that gives no verdict.
#[derive(Debug)]
pub struct NoVerdict {
    /// What is told.
    pub problem: Problem,
    /// Whether it applies to all evidence of its type.
    pub is_default: bool,
}

/// The tenant's default policies for `kind`, and those that the client named: these can only narrow what is accepted.
///
/// # Errors
/// 400 if a policy that was named is not there.
pub fn applicable(
    kind: AttesterType,
    policies: &[Document<Policy>],
    requested: &[String],
) -> Result<Vec<Document<Policy>>, Problem> {
    let applies = |policy: &&Document<Policy>| {
        policy.body.attester_type.contains(&kind)
            && (policy.body.is_default || requested.contains(&policy.id))
    };
    let mut applicable: Vec<Document<Policy>> = policies.iter().filter(applies).cloned().collect();
    applicable.sort_by_key(|policy| !policy.body.is_default);
    let missing: Vec<&String> =
        requested.iter().filter(|id| !applicable.iter().any(|policy| policy.id == **id)).collect();
    if !missing.is_empty() {
        return Err(Problem::bad_request("policy_unknown", format!("Policy not found for ids: {missing:?}")));
    }
    Ok(applicable)
}

/// Those of the [`applicable`] that judge whatever the client asks for, if they are not all.
#[must_use]
pub fn without_requested(applicable: &[Document<Policy>]) -> Option<Vec<Document<Policy>>> {
    let defaults: Vec<Document<Policy>> =
        applicable.iter().filter(|policy| policy.body.is_default).cloned().collect();
    (defaults.len() < applicable.len()).then_some(defaults)
}

/// Whether the built-in policy judges, because the tenant has no default of its own.
#[must_use]
pub fn is_built_in(applicable: &[Document<Policy>]) -> bool {
    !applicable.iter().any(|policy| policy.body.is_default)
}

/// Whether any of the policies that are [`applicable`] may look at the entries of a TPM's logs: the built-in ones do not, and
/// it takes as long to lay them out as to appraise them.
#[must_use]
pub fn looks_at_entries(applicable: &[Document<Policy>]) -> bool {
    !applicable.is_empty()
}

/// What the typed rules of the policies that are [`applicable`] say of logs; the built-in one loosens nothing.
#[must_use]
pub fn log_rules(applicable: &[Document<Policy>]) -> LogRules {
    let rules = |policy: &Document<Policy>| policy.body.rules.clone().unwrap_or_default().logs;
    let mut all: Vec<LogRules> = applicable.iter().map(rules).collect();
    if is_built_in(applicable) {
        all.push(LogRules::default());
    }
    LogRules::strictest(&all)
}

/// Evaluates the policies that are [`applicable`], and the built-in one for a tenant without a default of its own.
///
/// # Errors
/// [`NoVerdict`] of the first that gives none.
pub fn evaluate(
    cache: &RegoCache,
    kind: AttesterType,
    applicable: &[Document<Policy>],
    judged: &Judged,
) -> Result<Vec<Applied>, NoVerdict> {
    let mut input = Input::from(&judged.document);
    if let Some(log_data) = &judged.log_data {
        input.put(["evidence", "logs", "0"], "log_data", log_data.clone());
    }
    let mut applied = Vec::new();
    if is_built_in(applicable) {
        let text = Text { id: BUILT_IN, name: BUILT_IN, version: 0, is_default: true, rego: built_in(kind) };
        applied.push(run(cache, &text, &input)?);
    }
    for Document { id, name, version, body, .. } in applicable {
        let text = Text { id, name, version: *version, is_default: body.is_default, rego: &body.rego };
        applied.push(run(cache, &text, &input)?);
    }
    Ok(applied)
}

/// A policy that is asked, and what is told of it.
struct Text<'a> {
    id: &'a str,
    name: &'a str,
    version: i64,
    is_default: bool,
    rego: &'a str,
}

fn run(cache: &RegoCache, text: &Text<'_>, input: &Input) -> Result<Applied, NoVerdict> {
    let &Text { id, name, version, is_default, rego } = text;
    let failed = |reason: String| {
        let problem = Problem::bad_request("policy_error", format!("policy {id}: {reason}"));
        NoVerdict { problem, is_default }
    };
    let compiled = cache.get(id, ENTRY_POINT, rego).map_err(|error| failed(error.to_string()))?;
    let result = compiled.evaluate(input).map_err(failed)?;
    let matched = result
        .get("policy_matched")
        .and_then(Value::as_bool)
        .ok_or_else(|| failed("its result has no policy_matched that is true or false".to_owned()))?;
    let stopped_at = if matched { Vec::new() } else { compiled.why_not(input, "policy_matched") };
    let custom = result.get("custom_data").cloned();
    Ok(Applied { id: id.to_owned(), name: name.to_owned(), version, is_default, matched, stopped_at, custom })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Otherwise they would have to be shown to them.
    #[test]
    fn built_in_policies_do_not_look_at_entries() {
        assert!(!looks_at_entries(&[]));
        let cache = RegoCache::default();
        let registers: Vec<Value> = (0..8).map(|register| json!({ "pcr_index": register })).collect();
        for (kind, log_type) in [(AttesterType::TpmIma, "ImaLog"), (AttesterType::TpmBoot, "TcgEventLog")] {
            let rego = built_in(kind);
            assert!(
                !rego.contains("log_data") && !rego.contains("walk") && !rego.contains("object."),
                "{rego}"
            );
            let compiled = cache.get(BUILT_IN, ENTRY_POINT, rego).unwrap();
            for status in ["matched", "unmatched"] {
                let log = json!({
                    "log_type": log_type, "log_status": "replay_success", "ref_value_match_status": status,
                    "secure_boot": true,
                });
                let pcrs = json!({ "pcr_values": registers });
                let without = json!({ "evidence": { "logs": [log], "pcrs": pcrs } });
                let mut with = Input::from(&without);
                with.put(["evidence", "logs", "0"], "log_data", Input::from(json!([{ "file_path": "/a" }])));
                let judged = [Input::from(&without), with].map(|input| compiled.evaluate(&input).unwrap());
                assert_eq!(judged[0], judged[1], "{kind}");
                assert_eq!(judged[0]["policy_matched"], json!(status == "matched"), "{kind}");
            }
        }
    }
}
