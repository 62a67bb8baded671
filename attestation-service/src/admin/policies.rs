//! `/policies`: appraisal policies.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use verifier::AppraisalPolicy;

use super::identity::Operator;
use super::{Intent, documents, found, name, no_nul, stored_name, usable};
use crate::api::PolicyDocument;
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::{Service, built_in_policies};
use crate::store::policies::StoredPolicy;
use crate::store::sha256;

fn document(policy: StoredPolicy) -> Result<PolicyDocument, Problem> {
    Ok(PolicyDocument {
        sha256: hex::encode(policy.sha256()),
        id: stored_name(policy.id)?,
        version: policy.version,
        rego: policy.rego,
        exceptions: policy.exceptions,
        rules: policy.rules,
        added_at: policy.added_at,
    })
}

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<PolicyDocument>>, Problem> {
    let registered = service.store.policies().await?;
    let built_in = built_in_policies().into_iter();
    let mut policies: Vec<_> =
        built_in.filter(|built_in| registered.iter().all(|policy| policy.id != built_in.id)).collect();
    policies.extend(registered);
    documents(policies, document)
}

/// Every version of one policy: a token names the digest of the one that it was issued under.
pub async fn versions(
    State(service): State<Arc<Service>>,
    Path(text): Path<String>,
) -> Result<Json<Vec<PolicyDocument>>, Problem> {
    let name = name(&text)?;
    let versions = service.store.policy_versions(name.as_str()).await?;
    found("policy", name.as_str(), !versions.is_empty())?;
    documents(versions, document)
}

pub async fn add(
    state: State<Arc<Service>>,
    operator: Operator,
    body: RequiredJson<PolicyDocument>,
) -> Result<StatusCode, Problem> {
    write(state, operator, body, "policy.add").await?;
    Ok(StatusCode::CREATED)
}

pub async fn replace(
    state: State<Arc<Service>>,
    operator: Operator,
    body: RequiredJson<PolicyDocument>,
) -> Result<StatusCode, Problem> {
    write(state, operator, body, "policy.replace").await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn write(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<PolicyDocument>,
    action: &'static str,
) -> Result<(), Problem> {
    let object = document.id.to_string();
    let digest = Some(sha256(document.rego.as_bytes()));
    let intent = Intent { operator: &operator, action, object: &object, digest };
    service
        .change(intent, async |change| {
            no_nul("rego", &document.rego)?;
            let (id, rego) = (document.id.clone(), document.rego.clone());
            usable(move || AppraisalPolicy::new(id.as_str(), &rego, Vec::new())).await?;
            let policy = StoredPolicy {
                id: document.id.into(),
                version: 0,
                rego: document.rego,
                exceptions: document.exceptions,
                rules: document.rules,
                added_at: service.environment.clock.now(),
            };
            match action {
                "policy.add" => change.add_policy(&policy).await?,
                _ => change.set_policy(&policy).await?,
            };
            Ok(())
        })
        .await
}

pub async fn remove(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    service
        .remove(&operator, "policy.delete", "policy", &name, async |change, name| {
            change.delete_policy(name).await
        })
        .await
}
