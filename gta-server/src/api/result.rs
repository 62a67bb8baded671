//! What a token says of a node: an EAT with the members of the Global Trust Authority, or an EAR (draft-ietf-rats-ear-03).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use verifier::tpm::AttestationKey;

use crate::appraise::{Applied, Judged, TokenFormat};
use crate::health::{Finding, Reason};
use crate::json::with;
use crate::model::AttesterType;
use crate::nonce::NonceType;

/// What came of one piece of evidence.
pub struct Outcome {
    kind: AttesterType,
    /// What policies saw, without the logs.
    judged: Judged,
    /// What policies said.
    policies: Vec<Applied>,
    /// How many entries of the IMA log are proven.
    pub ima_entries: Option<u64>,
}

impl Outcome {
    /// What came of evidence of this type, and what policies said of it.
    pub fn new(kind: AttesterType, mut judged: Judged, policies: Vec<Applied>) -> Self {
        shorten(&mut judged.document);
        judged.log_data = None;
        Self { kind, judged, policies, ima_entries: None }
    }

    /// Whether the evidence is accepted: its logs are true, and all policies match, of which there is at least one.
    pub fn passed(&self) -> bool {
        self.reason().is_none()
    }

    /// Why the evidence is not accepted; `None` if it is.
    pub fn reason(&self) -> Option<Reason> {
        self.reason_by(|_| true)
    }

    /// Why the evidence would not be accepted whatever the client asked for; `None` if it would.
    pub fn default_reason(&self) -> Option<Reason> {
        self.reason_by(|policy| policy.is_default)
    }

    fn reason_by(&self, judges: impl Fn(&Applied) -> bool) -> Option<Reason> {
        let policies: Vec<&Applied> = self.policies.iter().filter(|policy| judges(policy)).collect();
        let matched = !policies.is_empty() && policies.iter().all(|policy| policy.matched);
        if matched && self.judged.refused.is_none() {
            return None;
        }
        let text = |member: &str| {
            let found = self.judged.document.pointer(&format!("/evidence/logs/0/reason/{member}"));
            found.and_then(Value::as_str).map(str::to_owned)
        };
        let unmatched = || policies.iter().filter(|policy| !policy.matched);
        let (code, detail) = match (&self.judged.refused, text("code"), text("detail")) {
            (Some(refusal), ..) => (refusal.code.as_str().to_owned(), refusal.detail.clone()),
            (None, Some(code), Some(detail)) => (code, detail),
            _ => {
                let names: Vec<&str> = unmatched().map(|policy| policy.name.as_str()).collect();
                ("policy_unmatched".to_owned(), format!("not accepted by the policies {}", names.join(", ")))
            }
        };
        let subjects = self.judged.subjects.iter().cloned().map(Finding::Evidence);
        let policies = unmatched().map(|policy| Finding::Policy {
            id: policy.id.clone(),
            name: policy.name.clone(),
            version: policy.version,
            lines: policy.stopped_at.clone(),
        });
        Some(Reason::new(Some(self.kind), &code, &detail, subjects.chain(policies)))
    }
}

/// Whose evidence it is.
pub struct Subject<'a> {
    /// The name under which it is enrolled, or that it gave.
    pub node_id: &'a str,
    /// Its UEID, if what it can be told by is proven.
    pub ueid: Option<String>,
    /// The nonce, as it was sent.
    pub nonce: &'a str,
    /// Who made it.
    pub nonce_type: NonceType,
    /// What else the quotes are bound to.
    pub attester_data: Option<&'a RawValue>,
}

/// The claims of a token.
pub fn claims(
    format: TokenFormat,
    subject: &Subject<'_>,
    outcomes: &[Outcome],
    now: i64,
) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    if let Some(ueid) = &subject.ueid {
        put("ueid", Value::from(ueid.as_str()));
    }
    put("node_id", Value::from(subject.node_id));
    put("nonce_type", json!(subject.nonce_type));
    put("eat_nonce", Value::from(nonce(subject.nonce)));
    if let Some(data) = subject.attester_data {
        put("attester_data", serde_json::from_str(data.get()).unwrap_or_default());
    }
    let ids = |matched: bool| -> Value {
        let applied = outcomes.iter().flat_map(|outcome| &outcome.policies);
        applied.filter(|policy| policy.matched == matched).map(|policy| policy.id.as_str()).collect()
    };
    put("matched_policy", ids(true));
    put("unmatched_policy", ids(false));
    match format {
        TokenFormat::Eat => {
            put("eat_profile", Value::from("urn:redoubt:gta:eat:1"));
            put("intuse", Value::from("generic"));
            for outcome in outcomes {
                put(outcome.kind.name(), eat(outcome));
            }
        }
        TokenFormat::Ear => {
            put("eat_profile", Value::from("tag:ietf.org,2026:rats/ear#03"));
            put(
                "ear_verifier_id",
                json!({ "developer": "Redoubt", "build": concat!("gta-server ", env!("CARGO_PKG_VERSION")) }),
            );
            let submods: Map<String, Value> =
                outcomes.iter().map(|outcome| (outcome.kind.name().to_owned(), ear(outcome, now))).collect();
            put("submods", Value::Object(submods));
        }
    }
    claims
}

/// RFC 9711, 4.2.1: type RAND, and 32 bytes that only this attestation key has.
pub fn ueid(key: &AttestationKey) -> String {
    let name = digest(&SHA256, key.fingerprint().as_bytes());
    URL_SAFE_NO_PAD.encode([&[1], name.as_ref()].concat())
}

/// RFC 9711 has room for 88 characters: the digest of a longer nonce.
fn nonce(nonce: &str) -> String {
    if (8..=88).contains(&nonce.len()) {
        return nonce.to_owned();
    }
    URL_SAFE_NO_PAD.encode(digest(&SHA256, nonce.as_bytes()).as_ref())
}

fn eat(outcome: &Outcome) -> Value {
    json!({
        "attestation_status": if outcome.passed() { "pass" } else { "fail" },
        "policy_info": policy_info(outcome),
        "evidence": outcome.judged.document.get("evidence"),
    })
}

fn policy_info(outcome: &Outcome) -> Vec<Value> {
    let info = |policy: &Applied| {
        let info = json!({
            "appraisal_policy_id": policy.id,
            "policy_version": policy.version,
            "policy_matched": policy.matched,
        });
        match &policy.custom {
            Some(custom) => with(info, "custom_data", custom.clone()),
            None => info,
        }
    };
    outcome.policies.iter().map(info).collect()
}

/// Tokens travel in headers: the logs stay behind, what was found in them comes along.
fn shorten(document: &mut Value) {
    let Some(evidence) = document.get_mut("evidence").and_then(Value::as_object_mut) else { return };
    for log in ["vcca_ima_log_data", "vcca_ccel_log_data"] {
        evidence.remove(log);
    }
    let logs = evidence.get_mut("logs").and_then(Value::as_array_mut);
    for log in logs.into_iter().flatten().filter_map(Value::as_object_mut) {
        log.remove("log_data");
    }
}

fn ear(outcome: &Outcome, now: i64) -> Value {
    let trust = outcome.judged.trust;
    let mut vector = json!({ "instance-identity": 2, "executables": trust.executables });
    if let Some(hardware) = trust.hardware {
        vector = with(vector, "hardware", hardware);
    }
    json!({
        "iat": now,
        "ear_status": if outcome.passed() { "affirming" } else { "contraindicated" },
        "ear_trustworthiness_vector": vector,
        "ear_appraisal_policy_ids": outcome.policies.iter().map(|policy| policy.id.as_str()).collect::<Vec<_>>(),
        "policy_info": policy_info(outcome),
    })
}
