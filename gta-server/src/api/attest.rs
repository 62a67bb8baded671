//! `POST /attest`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use verifier::chain::Purpose;
use verifier::tpm::AttestationKey;
use verifier::{Code, Refusal};

use super::certs::authorities;
use super::result::{self, Outcome};
use super::{SERVICE_VERSION, enrol, name, ref_values};
use crate::appraise::{
    AttestRequest, EvidenceItem, Expected, Measurement, TpmEvidence, appraise, evaluate, qualifying_data,
};
use crate::auth::Caller;
use crate::json::with;
use crate::model::{AttesterType, CertType, Node, Policy, Role};
use crate::service::{Service, Shared};
use crate::store::{StoredState, TpmState};

/// Most nodes in one request.
const MAX_MEASUREMENTS: usize = 16;
/// Most policies that a client names for one piece of evidence.
const MAX_POLICIES: usize = 10;

/// Appraises evidence; gives a token for each node.
pub async fn attest(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<AttestRequest>,
) -> Result<Json<Value>, Problem> {
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

async fn attest_node(service: &Shared, caller: &Caller, measurement: Measurement) -> Result<Value, Problem> {
    let Measurement { node_id, nonce_type, nonce, token_fmt, attester_data, evidences } = measurement;
    name("node_id", &node_id)?;
    let kinds = kinds(&evidences)?;
    let bound = service.take_nonce(&caller.tenant, &node_id, nonce_type, nonce.as_deref()).await?;
    let qualifying = qualifying_data(&bound, attester_data.as_deref()).map_err(refused)?;
    let mut outcomes = Vec::new();
    let mut identity: Option<AttestationKey> = None;
    for (kind, item) in kinds.into_iter().zip(evidences) {
        let key = attestation_key(service, caller, &node_id, kind, &item.evidence).await?;
        if identity.as_ref().is_some_and(|other| *other != key) {
            return Err(Problem::bad_request(
                "keys_differ",
                "the evidence of one node is signed by several attestation keys",
            ));
        }
        outcomes.push(attest_kind(service, caller, kind, item, &key, &qualifying).await?);
        identity = Some(key);
    }
    let Some(key) = identity else { return Err(no_evidence()) };
    let subject = result::Subject {
        node_id: &node_id,
        key: &key,
        nonce: nonce.as_deref().unwrap_or_default(),
        nonce_type,
        attester_data: attester_data.as_deref(),
    };
    let claims = result::claims(token_fmt, &subject, &outcomes, service.now());
    let token = service.sign_token(claims).await?;
    let passed = outcomes.iter().all(Outcome::passed);
    let next = outcomes.iter().find_map(|outcome| outcome.ima_entries);
    let mut answer = json!({ "node_id": node_id, "token": token, "attestation_status": if passed { "pass" } else { "fail" } });
    if let Some(next) = next {
        answer = with(answer, "ima_next_entry", next);
    }
    Ok(answer)
}

/// The types of evidence: each once, for a second one could take the place of the first in the result.
fn kinds(evidences: &[EvidenceItem]) -> Result<Vec<AttesterType>, Problem> {
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
        let log = match kind {
            AttesterType::TpmBoot => "TcgEventLog",
            AttesterType::TpmIma => "ImaLog",
        };
        if item.evidence.log_type().is_some_and(|found| found != log) {
            return Err(Problem::bad_request("log_type_wrong", format!("the log of {kind} is a {log}")));
        }
        kinds.push(kind);
    }
    if kinds.is_empty() { Err(no_evidence()) } else { Ok(kinds) }
}

fn no_evidence() -> Problem {
    Problem::bad_request("evidence_missing", "a measurement has at least one evidence")
}

/// The key that must have signed: the node's, if it is enrolled; otherwise one that the tenant's authorities have certified.
async fn attestation_key(
    service: &Service,
    caller: &Caller,
    node_id: &str,
    kind: AttesterType,
    evidence: &TpmEvidence,
) -> Result<AttestationKey, Problem> {
    let mut certified = None;
    for sent in &evidence.ak_certs {
        if sent.cert_type != "aik" || certified.is_some() {
            return Err(Problem::bad_request(
                "ak_certs_unsupported",
                "ak_certs has at most one certificate, of an aik: a lak proves nothing unless an iak has certified it \
                 (TPM2_Certify)",
            ));
        }
        let kind = match kind {
            AttesterType::TpmBoot => CertType::TpmBoot,
            AttesterType::TpmIma => CertType::TpmIma,
        };
        let bundle = authorities(service, &caller.tenant, kind).await?;
        let certificate = enrol::certificate("cert_data", &sent.cert_data)?;
        let device =
            bundle.certified(&certificate, Purpose::Attestation, service.now()).map_err(|error| {
                Problem::bad_request(
                    error.code().as_str(),
                    format!("Certificate chain validation failed: {error}"),
                )
            })?;
        certified = Some(device);
    }
    let node = service.store.get::<Node>(&caller.tenant, node_id).await?;
    match (node, certified) {
        (Some(node), certified) => {
            let public = enrol::public("the node's key", &node.body.attestation_key)?;
            let key = AttestationKey::from_public(&public).map_err(refused)?;
            if certified.is_some_and(|device| !key.is_certified(&device.key)) {
                return Err(Problem::bad_request(
                    "node_key_differs",
                    "the certificate is not that of the key with which this node was enrolled",
                ));
            }
            Ok(key)
        }
        (None, Some(device)) => AttestationKey::from_certified(&device.key).map_err(refused),
        (None, None) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "node_unknown",
            "this node is not enrolled, and sends no certificate of its attestation key",
        )),
    }
}

async fn attest_kind(
    service: &Shared,
    caller: &Caller,
    kind: AttesterType,
    item: EvidenceItem,
    key: &AttestationKey,
    qualifying: &[u8],
) -> Result<Outcome, Problem> {
    let tenant = &caller.tenant;
    let ak = key.fingerprint();
    let before = service.store.state(tenant, &ak).await?;
    let files = match kind {
        AttesterType::TpmIma => ref_values::files(service, tenant).await?,
        AttesterType::TpmBoot => Arc::new(None),
    };
    let policies = service.store.list::<Policy>(tenant).await?;
    let EvidenceItem { evidence, policy_ids, .. } = item;
    let (key, qualifying) = (key.clone(), qualifying.to_vec());
    let known = before.as_ref().map(|stored: &StoredState| stored.state.clone());
    let shared = Shared::clone(service);
    // Signatures, logs and policies may take their time.
    let appraised = tokio::task::spawn_blocking(move || {
        let expected = Expected {
            key: &key,
            qualifying: &qualifying,
            state: known.as_ref(),
            files: files.as_ref().as_ref(),
        };
        let appraised = appraise(kind, &evidence, &expected).map_err(refused)?;
        let applied = evaluate(&shared.rego, kind, &policies, &policy_ids, &appraised.document)?;
        Ok::<_, Problem>((appraised, applied))
    });
    let (appraised, policies) = appraised.await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "appraisal did not finish");
        Problem::unavailable("appraisal_failed", "the appraisal did not finish")
    })??;
    let state = TpmState::new(&appraised.clock, appraised.ima.as_ref(), service.now());
    service.store.set_state(tenant, &ak, before.as_ref(), &state).await?;
    let ima_entries = appraised.ima.filter(|_| kind == AttesterType::TpmIma).map(|ima| ima.entries);
    Ok(Outcome { kind, document: appraised.document, refused: appraised.refused, policies, ima_entries })
}

/// A refusal as clients of the Global Trust Authority expect it: their request is at fault.
pub fn refused(refusal: Refusal) -> Problem {
    let status = match refusal.code {
        Code::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut problem = Problem::new(status, refusal.code.as_str(), refusal.detail);
    problem.step = Some(refusal.step.as_str());
    problem
}
