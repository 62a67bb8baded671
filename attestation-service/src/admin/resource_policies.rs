//! `/resource-policies`: who may have a resource.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use verifier::Rego;

use super::identity::Operator;
use super::{Intent, found, no_nul, usable};
use crate::api::ResourcePolicyDocument;
use crate::extract::RequiredJson;
use crate::names::PolicyName;
use crate::problem::Problem;
use crate::release;
use crate::service::Service;
use crate::store::resource_policies::StoredResourcePolicy;
use crate::store::sha256;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<ResourcePolicyDocument>>, Problem> {
    let mut policies = service.store.resource_policies().await?;
    if let Some(built_in) = release::built_in()
        && policies.iter().all(|policy| policy.name != built_in.name)
    {
        policies.insert(0, built_in);
    }
    let document = |policy: StoredResourcePolicy| ResourcePolicyDocument {
        sha256: hex::encode(policy.sha256()),
        name: policy.name,
        version: policy.version,
        rego: policy.rego,
        added_at: policy.added_at,
    };
    Ok(Json(policies.into_iter().map(document).collect()))
}

pub async fn set(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<ResourcePolicyDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let digest = Some(sha256(document.rego.as_bytes()));
    let intent = Intent { operator: &operator, action: "resource_policy.set", object: &object, digest };
    service
        .change(intent, async |change| {
            no_nul("rego", &document.rego)?;
            let (id, entry_point, rego) =
                (object.clone(), document.name.entry_point(), document.rego.clone());
            usable(move || Rego::compile(&id, &entry_point, &rego)).await?;
            let policy = StoredResourcePolicy {
                name: document.name,
                version: 0,
                rego: document.rego,
                added_at: service.environment.clock.now(),
            };
            Ok(change.set_resource_policy(&policy).await?)
        })
        .await?;
    Ok(StatusCode::CREATED)
}

pub async fn remove(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path((vendor, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let name = PolicyName::new(Some(&vendor), &id)
        .map_err(|error| Problem::bad_request("name_invalid", error.to_string()))?;
    let object = name.to_string();
    let intent =
        Intent { operator: &operator, action: "resource_policy.delete", object: &object, digest: None };
    service
        .change(intent, async |change| {
            found("resource policy", &object, change.delete_resource_policy(&name).await?)
        })
        .await
}
