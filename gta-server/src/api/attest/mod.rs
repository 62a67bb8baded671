//! `POST /attest`.

mod tpm;
mod virtcca;

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use service_kit::extract::JsonText;
use service_kit::problem::Problem;
use verifier::tpm::AttestationKey;

use super::refusal::refused;
use super::result;
use super::{SERVICE_VERSION, name, policies};
use crate::appraise::{
    AttestRequest, Evidence, EvidenceItem, Measurement, NoVerdict, applicable, qualifying_data,
};
use crate::auth::Caller;
use crate::health::{Health, INTERVALS, Reason, Report, Verdict};
use crate::json::with;
use crate::model::{AttesterType, Node, Policy, Role};
use crate::nonce::NonceType;
use crate::service::Shared;
use crate::store::Document;

/// Most nodes in one request.
const MAX_MEASUREMENTS: usize = 16;
/// Most policies that a client names for one piece of evidence.
const MAX_POLICIES: usize = 10;

/// Have evidence appraised; gives a token for each node.
#[utoipa::path(
    post, path = "/attest", request_body = AttestRequest,
    responses(
        (
            status = 200, body = Object,
            description = "`tokens`: of each node `node_id`, `token`, `attestation_status` and perhaps `ima_next_entry`"
        ),
        (status = 400, description = "The evidence is refused, or the request cannot be used"),
    )
)]
pub async fn attest(
    State(service): State<Shared>,
    caller: Caller,
    body: JsonText,
) -> Result<Json<Value>, Problem> {
    let request: AttestRequest<'_> = body.read()?;
    caller.must_be(&[Role::Agent, Role::RelyingParty])?;
    if !(1..=MAX_MEASUREMENTS).contains(&request.measurements.len()) {
        return Err(Problem::bad_request(
            "measurements_invalid",
            format!("a request has 1 to {MAX_MEASUREMENTS} measurements"),
        ));
    }
    let mut tokens = Vec::new();
    for measurement in request.measurements {
        tokens.push(attest_node(&service, &caller, measurement).await?);
    }
    Ok(Json(json!({ "service_version": SERVICE_VERSION, "tokens": tokens })))
}

/// One piece of evidence on its way.
struct Submission<'a> {
    tenant: &'a str,
    /// The node, if it is enrolled.
    node: Option<&'a Document<Node>>,
    kind: AttesterType,
    evidence: Evidence<'a>,
    /// The tenant's policies that apply to it.
    policies: Vec<Document<Policy>>,
    /// What it must be bound to.
    qualifying: &'a [u8],
}

/// Why evidence has no result.
enum Rejected {
    /// It, or the request, is not what this tenant takes.
    Anyway(Problem),
    /// It is true, and a policy of the tenant has nothing to say of it.
    NoVerdict(AttesterType, Problem),
    /// Policies that the request names do not take it. Without these it has one.
    AsAsked(Problem),
}

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Self {
        Self::Anyway(problem)
    }
}

impl Rejected {
    fn without_verdict(kind: AttesterType, NoVerdict { problem, is_default }: NoVerdict) -> Self {
        if is_default { Self::NoVerdict(kind, problem) } else { Self::AsAsked(problem) }
    }

    fn problem(self) -> Problem {
        match self {
            Self::Anyway(problem) | Self::NoVerdict(_, problem) | Self::AsAsked(problem) => problem,
        }
    }
}

/// What is answered to evidence.
struct Judgement {
    answer: Value,
    /// By what the tenant demands of all evidence, whatever else the request has asked for: why each is not accepted,
    /// if so.
    standing: BTreeMap<AttesterType, Option<Reason>>,
}

/// Appraises the evidence of a node, and notes how the node is.
async fn attest_node(
    service: &Shared,
    caller: &Caller,
    measurement: Measurement<'_>,
) -> Result<Value, Problem> {
    let (tenant, node_id) = (caller.tenant.as_str(), measurement.node_id.clone());
    name("node_id", &node_id)?;
    let kinds = kinds(&measurement.evidences)?;
    let (nonce_type, report_interval) = (measurement.nonce_type, measurement.report_interval);
    if report_interval.is_some_and(|interval| !INTERVALS.contains(&interval)) {
        return Err(Problem::bad_request(
            "report_interval_invalid",
            format!("report_interval is {} to {} seconds", INTERVALS.start(), INTERVALS.end()),
        ));
    }
    let node = service.store.get::<Node>(tenant, &node_id).await?;
    let judged = judge(service, tenant, node.as_ref(), measurement, &kinds).await;
    let (answer, evidences) = match judged {
        Ok(Judgement { answer, standing }) => {
            let evidences = standing.into_iter().map(|(kind, reason)| (kind, Verdict::of(reason))).collect();
            (Ok(answer), evidences)
        }
        // Under a name that nobody has enrolled, anybody may send anything.
        Err(Rejected::Anyway(problem)) if problem.step.is_some() && node.is_some() => {
            let verdict = Verdict { status: Health::Refused, reason: Some(reason(None, &problem)) };
            (Err(problem), kinds.iter().map(|&kind| (kind, verdict.clone())).collect())
        }
        Err(Rejected::NoVerdict(kind, problem)) => {
            let verdict = Verdict::of(Some(reason(Some(kind), &problem)));
            (Err(problem), BTreeMap::from([(kind, verdict)]))
        }
        Err(rejected) => return Err(rejected.problem()),
    };
    // Whether evidence for another's nonce is fresh, this service cannot tell: it says nothing about how the node is
    // now.
    if nonce_type == NonceType::Verifier {
        service.note_report(tenant, &node_id, &Report { evidences, report_interval }).await?;
    }
    answer
}

fn reason(attester_type: Option<AttesterType>, problem: &Problem) -> Reason {
    Reason::new(attester_type, problem.code, &problem.detail, [])
}

/// What is answered, and how the node stands.
async fn judge(
    service: &Shared,
    tenant: &str,
    node: Option<&Document<Node>>,
    measurement: Measurement<'_>,
    kinds: &[AttesterType],
) -> Result<Judgement, Rejected> {
    let Measurement { node_id, nonce_type, nonce, token_fmt, attester_data, evidences, .. } = measurement;
    let bound = service.take_nonce(tenant, &node_id, nonce_type, nonce.as_deref()).await?;
    let qualifying = qualifying_data(&bound, attester_data).map_err(refused)?;
    if node.is_some() && !kinds.iter().any(|kind| kind.is_of_tpm()) {
        return Err(Problem::bad_request(
            "tpm_evidence_missing",
            "this node is enrolled by its TPM: evidence of the TPM must come with the same nonce",
        )
        .into());
    }
    let policies = policies::of_tenant(service, tenant).await?;
    let (mut outcomes, mut standing) = (Vec::new(), BTreeMap::new());
    let (mut key, mut platform): (Option<AttestationKey>, _) = (None, None);
    for (&kind, item) in kinds.iter().zip(evidences) {
        let submission = Submission {
            tenant,
            node,
            kind,
            evidence: item.evidence,
            policies: applicable(kind, &policies, &item.policy_ids)?,
            qualifying: &qualifying,
        };
        if !kind.is_of_tpm() {
            let (outcome, default_reason, ueid) = virtcca::attest(service, submission).await?;
            outcomes.push(outcome);
            standing.insert(kind, default_reason);
            platform = ueid;
            continue;
        }
        let (outcome, default_reason, signed_by) = tpm::attest(service, submission).await?;
        if key.as_ref().is_some_and(|other| *other != signed_by) {
            return Err(Problem::bad_request(
                "keys_differ",
                "the evidence of one node is signed by several attestation keys",
            )
            .into());
        }
        standing.insert(kind, default_reason);
        outcomes.push(outcome);
        key = Some(signed_by);
    }
    let subject = result::Subject {
        node_id: &node_id,
        ueid: key.as_ref().map(result::ueid).or(platform),
        nonce: nonce.as_deref().unwrap_or_default(),
        nonce_type,
        attester_data,
    };
    let claims = result::claims(token_fmt, &subject, &outcomes, service.now());
    let token = service.sign_token(claims).await?;
    let passed = outcomes.iter().all(result::Outcome::passed);
    let next = outcomes.iter().find_map(|outcome| outcome.ima_entries);
    let mut answer = json!({ "node_id": node_id, "token": token, "attestation_status": if passed { "pass" } else { "fail" } });
    if let Some(next) = next {
        answer = with(answer, "ima_next_entry", next);
    }
    Ok(Judgement { answer, standing })
}

/// The types of evidence: each once, for a second one could take the place of the first in the result.
fn kinds(evidences: &[EvidenceItem<'_>]) -> Result<Vec<AttesterType>, Problem> {
    let mut seen = BTreeSet::new();
    let mut kinds = Vec::new();
    for item in evidences {
        let kind = AttesterType::parse(&item.attester_type).ok_or_else(|| {
            let shown: String = item.attester_type.chars().take(64).collect();
            Problem::bad_request(
                "attester_type_unknown",
                format!("Plugin not found for attester type: {shown}"),
            )
        })?;
        if !seen.insert(kind) {
            return Err(Problem::bad_request("attester_type_repeated", format!("{kind} is there twice")));
        }
        if item.policy_ids.len() > MAX_POLICIES {
            return Err(Problem::bad_request("policies_many", format!("at most {MAX_POLICIES} policy_ids")));
        }
        kinds.push(kind);
    }
    if kinds.is_empty() {
        return Err(Problem::bad_request("evidence_missing", "a measurement has at least one evidence"));
    }
    Ok(kinds)
}
