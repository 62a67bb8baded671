//! Evidence of a node's TPM.

use std::sync::Arc;

use axum::http::StatusCode;
use service_kit::problem::Problem;
use verifier::chain::Purpose;
use verifier::tpm::AttestationKey;

use super::{Rejected, Submission};
use crate::api::certs::authorities;
use crate::api::leisure::at_leisure;
use crate::api::refusal::refused;
use crate::api::result::Outcome;
use crate::api::{enrol, ref_values};
use crate::appraise::tpm::{Expected, TpmEvidence, TpmState, appraise};
use crate::appraise::{evaluate, log_rules, looks_at_entries, without_requested};
use crate::health::Reason;
use crate::model::{AttesterType, CertType, Node, Policy};
use crate::service::{Service, Shared};
use crate::store::{Document, Stored};

/// What came of the evidence, why it would not be accepted whatever was asked for, and the key that has signed it.
pub async fn attest(
    service: &Shared,
    submission: Submission<'_>,
) -> Result<(Outcome, Option<Reason>, AttestationKey), Rejected> {
    let Submission { tenant, node, kind, evidence, policies, qualifying } = submission;
    let evidence = evidence.tpm(kind)?;
    let signed_by = attestation_key(service, tenant, kind, node, &evidence).await?;
    let ak = signed_by.fingerprint();
    let before = service.store.state(tenant, &ak).await.map_err(Problem::from)?;
    let files = match kind {
        AttesterType::TpmIma => ref_values::files(service, tenant).await?,
        _ => Arc::new(None),
    };
    let boots = match kind {
        AttesterType::TpmBoot => ref_values::boots(service, tenant).await?,
        _ => Arc::default(),
    };
    let (key, qualifying) = (signed_by.clone(), qualifying.to_vec());
    let known = before.as_ref().map(|stored: &Stored<TpmState>| stored.state.clone());
    let shared = Shared::clone(service);
    let (mut outcome, reason, proven) = at_leisure(move || {
        let judge = |policies: &[Document<Policy>]| {
            let rules = log_rules(policies);
            let expected = Expected {
                key: &key,
                qualifying: &qualifying,
                state: known.as_ref(),
                files: files.as_ref().as_ref(),
                boots: &boots,
                rules: &rules,
                shows_entries: looks_at_entries(policies),
            };
            let appraised = appraise(kind, &evidence, &expected).map_err(refused)?;
            let applied = evaluate(&shared.rego, kind, policies, &appraised.judged)
                .map_err(|error| Rejected::without_verdict(kind, error))?;
            Ok::<_, Rejected>((
                Outcome::new(kind, appraised.judged, applied),
                (appraised.clock, appraised.ima),
            ))
        };
        // Typed rules of policies that were asked for take part in the appraisal itself.
        let ruled = |policy: &Document<Policy>| !policy.body.is_default && policy.body.rules.is_some();
        let Some(defaults) = without_requested(&policies).filter(|_| policies.iter().any(ruled)) else {
            let (outcome, proven) = judge(&policies)?;
            let reason = outcome.default_reason();
            return Ok::<_, Rejected>((outcome, reason, proven));
        };
        let (by_default, _) = judge(&defaults)?;
        let (outcome, proven) = judge(&policies).map_err(|rejected| Rejected::AsAsked(rejected.problem()))?;
        Ok((outcome, by_default.reason(), proven))
    })
    .await?;
    let (clock, ima) = proven;
    let state = TpmState::new(&clock, ima.as_ref(), service.now());
    service.store.set_state(tenant, &ak, before.as_ref(), &state).await.map_err(Problem::from)?;
    outcome.ima_entries = ima.filter(|_| kind == AttesterType::TpmIma).map(|ima| ima.entries);
    Ok((outcome, reason, signed_by))
}

/// The key that must have signed: the node's, if it is enrolled; otherwise one that the tenant's authorities have certified.
async fn attestation_key(
    service: &Service,
    tenant: &str,
    kind: AttesterType,
    node: Option<&Document<Node>>,
    evidence: &TpmEvidence,
) -> Result<AttestationKey, Problem> {
    let mut certified = None;
    for sent in &evidence.ak_certs {
        if sent.cert_type != "aik" || certified.is_some() {
            return Err(Problem::bad_request(
                "ak_certs_unsupported",
                "ak_certs has at most one certificate, of an aik: a machine whose iak certifies its key enrols once, at \
                 /enroll/certified",
            ));
        }
        let kind = match kind {
            AttesterType::TpmIma => CertType::TpmIma,
            _ => CertType::TpmBoot,
        };
        let bundle = authorities(service, tenant, kind).await?;
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
