//! Step `policy`: the operator's Rego policies see the typed claims and must all allow.

use serde::Serialize;
use serde_json::Value;

use crate::anchor::TrustAnchor;
use crate::policy::AppraisalPolicy;
use crate::refusal::{Code, Refusal, Step};
use crate::rego::Document;

/// What one policy said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyOutput {
    /// The policy's name.
    pub id: String,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// The object `data.attestation.output`.
    pub output: Value,
}

/// Evaluates every policy; `anchor` is the registered key of the platform, if it is one. More policies can only narrow what passes.
pub fn verify(
    input: &Document,
    anchor: Option<&TrustAnchor>,
    policies: &[AppraisalPolicy],
) -> Result<Vec<PolicyOutput>, Refusal> {
    let refuse = |code, detail: String| Refusal::new(Step::Policy, code, detail);
    if policies.is_empty() {
        return Err(refuse(Code::PolicyError, "no appraisal policy applies: register one".to_owned()));
    }
    let mut outputs = Vec::with_capacity(policies.len());
    for policy in policies {
        let id = policy.id();
        if let Some(anchor) = anchor
            && anchor.development
            && !policy.allows_development(&anchor.name)
        {
            return Err(refuse(
                Code::TrustAnchorDevelopment,
                format!(
                    "trust anchor {} is a development key and policy {id} makes no exception for it",
                    anchor.name
                ),
            ));
        }
        let output = policy
            .rego()
            .evaluate(input)
            .map_err(|reason| refuse(Code::PolicyError, format!("policy {id}: {reason}")))?;
        let Value::Object(members) = &output else {
            return Err(refuse(
                Code::PolicyError,
                format!("policy {id}: data.attestation.output is not an object"),
            ));
        };
        // secGear's verdict: a member that is false or null fails. Ours: and `allow` must be there and be true.
        let objecting = members.iter().find(|(_, value)| matches!(value, Value::Null | Value::Bool(false)));
        if let Some((member, value)) = objecting {
            return Err(refuse(Code::PolicyDenied, format!("policy {id}: output {member} is {value}")));
        }
        if members.get("allow") != Some(&Value::Bool(true)) {
            return Err(refuse(Code::PolicyDenied, format!("policy {id}: output has no allow: true")));
        }
        outputs.push(PolicyOutput { id: id.to_owned(), sha256: hex::encode(policy.rego().sha256()), output });
    }
    Ok(outputs)
}
