//! secGear's `/policy`, `/reference` and `/resource/policy`: reading here, writing on the admin plane.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use super::elsewhere;
use super::resource::{affirming, authenticate};
use crate::extract::OptionalJson;
use crate::names::{Name, NameError, PolicyName as ResourcePolicyName};
use crate::problem::{Problem, ProblemDocument};
use crate::secgear::{
    ChangeResourcePolicy, NewPolicy, NewReferences, PolicyLocation, PolicyName, ReadResourcePolicy,
};
use crate::service::Service;

/// An appraisal policy by query.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PolicyParameters {
    /// The policy's name.
    policy_id: Option<String>,
}

/// Read an appraisal policy.
#[utoipa::path(
    get, path = "/policy", params(PolicyParameters), request_body(content = Option<PolicyName>),
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "The Rego text in base64url without padding"),
        (status = 400, body = ProblemDocument), (status = 404, body = ProblemDocument),
        (status = 422, body = ProblemDocument),
    )
)]
pub async fn policy(
    State(service): State<Arc<Service>>,
    parameters: Result<Query<PolicyParameters>, QueryRejection>,
    OptionalJson(body): OptionalJson<PolicyName>,
) -> Result<String, Problem> {
    let malformed = |_| Problem::bad_request("query_malformed", "expected ?policy_id=NAME.rego");
    let Query(parameters) = parameters.map_err(malformed)?;
    let id = body.map(|body| body.policy_id).or(parameters.policy_id).ok_or_else(|| {
        Problem::bad_request("body_missing", "send policy_id as JSON, or ?policy_id=NAME.rego")
    })?;
    let id: Name = id.parse().map_err(|error| invalid("policy_id", &error))?;
    let rego = service.policy_text(&id).await?.ok_or_else(|| unknown("policy", id.as_str()))?;
    Ok(URL_SAFE_NO_PAD.encode(rego))
}

/// Not here: policies are changed on the admin plane.
#[utoipa::path(post, path = "/policy", request_body = NewPolicy, responses((status = 403, body = ProblemDocument)))]
pub async fn refuse_policy() -> Problem {
    elsewhere()
}

/// Not here: reference values are registered on the admin plane.
#[utoipa::path(post, path = "/reference", request_body = NewReferences, responses((status = 403, body = ProblemDocument)))]
pub async fn refuse_reference() -> Problem {
    elsewhere()
}

/// A resource policy by query.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ResourcePolicyParameters {
    /// Whose it is; without `id`, the names of all of this vendor's are read, and without both, all names.
    vendor: Option<String>,
    /// Its name, which ends in `.rego`.
    id: Option<String>,
}

/// Read a resource policy, or the names of them.
#[utoipa::path(
    get, path = "/resource/policy", params(ResourcePolicyParameters),
    request_body(content = Option<ReadResourcePolicy>),
    responses(
        (status = 200, body = String, description = "GetOne: the Rego text; otherwise an array of vendor/id.rego"),
        (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
        (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
        (status = 422, body = ProblemDocument),
    ),
    security(("token" = []))
)]
pub async fn resource_policy(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    parameters: Result<Query<ResourcePolicyParameters>, QueryRejection>,
    OptionalJson(body): OptionalJson<ReadResourcePolicy>,
) -> Result<Response, Problem> {
    affirming(&authenticate(&service, &headers).await?)?;
    let malformed = |_| Problem::bad_request("query_malformed", "expected ?vendor=VENDOR&id=NAME.rego");
    let Query(ResourcePolicyParameters { vendor, id }) = parameters.map_err(malformed)?;
    let wanted = match (body, vendor, id) {
        (Some(wanted), ..) => wanted,
        (None, vendor, Some(id)) => ReadResourcePolicy::GetOne { policy: PolicyLocation { vendor, id } },
        (None, Some(vendor), None) => ReadResourcePolicy::GetAllInVendor { vendor },
        (None, None, None) => ReadResourcePolicy::GetAll,
    };
    read_resource_policy(&service, wanted).await
}

/// Not here: resource policies are changed on the admin plane.
#[utoipa::path(
    post, path = "/resource/policy", request_body = ChangeResourcePolicy,
    responses((status = 403, body = ProblemDocument))
)]
pub async fn refuse_resource_policy() -> Problem {
    elsewhere()
}

/// What both planes answer to `GET /resource/policy`.
pub async fn read_resource_policy(
    service: &Service,
    wanted: ReadResourcePolicy,
) -> Result<Response, Problem> {
    if let ReadResourcePolicy::GetOne { policy } = wanted {
        let name = ResourcePolicyName::new(policy.vendor.as_deref(), &policy.id)
            .map_err(|error| invalid("policy", &error))?;
        let stored = service.resource_policy(&name).await?;
        let stored = stored.ok_or_else(|| unknown("resource policy", &name.to_string()))?;
        return Ok(stored.rego.into_response());
    }
    let vendor = match wanted {
        ReadResourcePolicy::GetAllInVendor { vendor } => Some(vendor),
        _ => None,
    };
    let policies = service.store.resource_policies().await?;
    let names = policies.iter().map(|policy| &policy.name);
    let names = names.filter(|name| vendor.as_deref().is_none_or(|vendor| name.vendor() == vendor));
    Ok(Json(names.map(ToString::to_string).collect::<Vec<_>>()).into_response())
}

fn invalid(member: &str, error: &NameError) -> Problem {
    Problem::bad_request("name_invalid", format!("{member}: {error}"))
}

fn unknown(what: &str, name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown", format!("there is no {what} {name}"))
}
