//! Why an authority refuses a machine: what its token says of that, for people.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;

use super::measurement::AttesterType;

/// Longest explanation taken over from a token, in characters.
const MAX_DETAIL: usize = 1024;
const MAX_REASONS: usize = 16;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What was refused.
    pub attester_type: &'static str,
    /// The machine code.
    pub code: String,
    /// An explanation for people.
    pub detail: String,
}

/// What a token gives as reasons, as far as it does. The token came from the authority itself, whose signature it is for others
/// to check.
#[must_use]
pub fn reasons(token: &str) -> Vec<Reason> {
    let Some(claims) = claims(token) else { return Vec::new() };
    let mut reasons = Vec::new();
    for kind in [AttesterType::TpmBoot, AttesterType::TpmIma, AttesterType::VirtCca] {
        let name = kind.name();
        // An EAT has its results at the top, an EAR in submodules.
        let part = claims.get(name).or_else(|| claims.get("submods")?.get(name));
        let Some(part) = part else { continue };
        let logs = part.pointer("/evidence/logs").and_then(Value::as_array).into_iter().flatten();
        let of_the_vm = part.pointer("/evidence/reason").into_iter();
        for reason in logs.filter_map(|log| log.get("reason")).chain(of_the_vm) {
            reasons.push(Reason {
                attester_type: name,
                code: text(reason.get("code")),
                detail: text(reason.get("detail")),
            });
        }
        let policies = part.get("policy_info").and_then(Value::as_array).into_iter().flatten();
        let unmatched = policies.filter(|policy| policy.get("policy_matched") == Some(&Value::Bool(false)));
        for policy in unmatched {
            reasons.push(Reason {
                attester_type: name,
                code: "policy_unmatched".to_owned(),
                detail: text(policy.get("appraisal_policy_id")),
            });
        }
    }
    reasons.truncate(MAX_REASONS);
    reasons
}

fn claims(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// It ends up on terminals: no control characters.
fn text(value: Option<&Value>) -> String {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn reasons_are_found_in_both_forms_of_tokens() {
        let part = json!({
            "evidence": { "logs": [{ "reason": { "code": "ima_unknown", "detail": "\u{1b}[2J/bin/evil" } }] },
            "policy_info": [
                { "appraisal_policy_id": "p", "policy_matched": false },
                { "appraisal_policy_id": "q", "policy_matched": true },
            ],
        });
        let expected = [("ima_unknown", "[2J/bin/evil"), ("policy_unmatched", "p")];
        for claims in [json!({ "tpm_ima": part }), json!({ "submods": { "tpm_ima": part } })] {
            let found = reasons(&token(&claims));
            let found: Vec<_> = found.iter().map(|r| (r.code.as_str(), r.detail.as_str())).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_no_token_has_no_reasons() {
        for text in ["", "a.b", "e30.e30.x", &token(&json!([]))] {
            assert_eq!(reasons(text), [], "{text}");
        }
    }
}
