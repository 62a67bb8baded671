//! `/resources` and `/bindings`: secrets, and the policies by which they are released.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::identity::Operator;
use super::{Intent, found, unprocessable};
use crate::api::{BindingDocument, NewResourceDocument, ResourceDocument};
use crate::extract::RequiredJson;
use crate::names::{PolicyName, ResourceName};
use crate::problem::Problem;
use crate::service::Service;
use crate::store::resources::{ResourceEntry, StoredResource};
use crate::store::{Change, StoreError};

/// Without it a resource could be bound to so many policies that nobody waits for their evaluation.
const MAX_BINDINGS: usize = 16;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<ResourceDocument>>, Problem> {
    let mut documents = Vec::new();
    for entry in service.store.resources().await? {
        documents.push(ResourceDocument {
            name: entry.name.to_string(),
            version: entry.version,
            size: entry.size,
            policies: service.store.bound_policies(&entry.name).await?,
            added_at: entry.added_at,
        });
    }
    Ok(Json(documents))
}

pub async fn add(
    state: State<Arc<Service>>,
    operator: Operator,
    body: RequiredJson<NewResourceDocument>,
) -> Result<StatusCode, Problem> {
    write(state, operator, body, "resource.add").await?;
    Ok(StatusCode::CREATED)
}

pub async fn replace(
    state: State<Arc<Service>>,
    operator: Operator,
    body: RequiredJson<NewResourceDocument>,
) -> Result<StatusCode, Problem> {
    write(state, operator, body, "resource.replace").await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn write(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<NewResourceDocument>,
    action: &'static str,
) -> Result<(), Problem> {
    let text = Zeroizing::new(document.content);
    let name = resource_name(&document.name)?;
    let object = name.to_string();
    let content = STANDARD
        .decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| unprocessable("content_malformed", "content is standard base64".to_owned()))?;
    let intent = Intent { operator: &operator, action, object: &object, digest: None };
    service
        .change(intent, async |change| {
            if content.len() > jose::MAX_PLAINTEXT_LEN {
                let (found, most) = (content.len(), jose::MAX_PLAINTEXT_LEN);
                let detail = format!("content has {found} bytes, at most {most} can be released");
                return Err(unprocessable("content_too_long", detail));
            }
            put(&service, change, &name, &content, action == "resource.add").await?;
            bind_all(change, &name, &document.policies).await
        })
        .await
}

async fn put(
    service: &Service,
    change: &mut Change,
    name: &ResourceName,
    content: &[u8],
    new: bool,
) -> Result<(), Problem> {
    let before = change.resource_version(name).await?;
    if new && before > 0 {
        return Err(
            StoreError::Exists("a resource with this name exists; replace it, or delete it first").into()
        );
    }
    let version = before.saturating_add(1);
    let entry = ResourceEntry {
        name: name.clone(),
        version,
        size: i64::try_from(content.len()).unwrap_or(i64::MAX),
        added_at: service.environment.clock.now(),
    };
    let content = service.seal_resource(name, version, content).await?;
    Ok(change.set_resource(&StoredResource { entry, content }).await?)
}

async fn bind_all(change: &mut Change, name: &ResourceName, policies: &[PolicyName]) -> Result<(), Problem> {
    if policies.len() > MAX_BINDINGS {
        return Err(unprocessable("too_many_policies", format!("policies: at most {MAX_BINDINGS}")));
    }
    for policy in policies {
        if !policy.may_be_bound_for(&name.vendor) {
            return Err(unprocessable(
                "resource_policy_foreign",
                format!("policies: {policy} belongs to another vendor than {name}"),
            ));
        }
        change.bind_policy(name, policy).await?;
    }
    Ok(())
}

pub async fn remove(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path((vendor, path)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let name = ResourceName::new(Some(&vendor), &path)
        .map_err(|error| Problem::bad_request("resource_name_invalid", error.to_string()))?;
    let object = name.to_string();
    let intent = Intent { operator: &operator, action: "resource.delete", object: &object, digest: None };
    service
        .change(intent, async |change| found("resource", &object, change.delete_resource(&name).await?))
        .await
}

pub async fn bind(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<BindingDocument>,
) -> Result<StatusCode, Problem> {
    let name = resource_name(&document.resource)?;
    let object = format!("{name} {}", document.policy);
    let intent = Intent { operator: &operator, action: "resource.bind", object: &object, digest: None };
    service
        .change(intent, async |change| {
            found("resource", &document.resource, change.resource_version(&name).await? > 0)?;
            bind_all(change, &name, std::slice::from_ref(&document.policy)).await
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn unbind(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<BindingDocument>,
) -> Result<StatusCode, Problem> {
    let name = resource_name(&document.resource)?;
    let object = format!("{name} {}", document.policy);
    let intent = Intent { operator: &operator, action: "resource.unbind", object: &object, digest: None };
    service
        .change(intent, async |change| {
            found("binding", &object, change.unbind_policy(&name, &document.policy).await?)
        })
        .await
}

fn resource_name(text: &str) -> Result<ResourceName, Problem> {
    text.parse().map_err(|error: crate::names::NameError| {
        unprocessable("resource_name_invalid", format!("name: {error}"))
    })
}
