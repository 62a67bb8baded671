//! `GET|POST /resource/storage`: a resource, sealed to the key that a valid token confirms, and the names of a vendor's.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::elsewhere;
use crate::environment::EntropyError;
use crate::extract::{OptionalJson, bearer};
use crate::names::ResourceName;
use crate::problem::{Problem, ProblemDocument};
use crate::secgear::{ChangeResource, Location, ReadResource};
use crate::service::Service;
use crate::token::Claims;

/// What `POST` takes: a reading, or a change, which is refused here.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Operation {
    /// A reading.
    Read(ReadResource),
    /// A change.
    Change(ChangeResource),
}

/// A resource by query, for clients that send no body with GET.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// Whose it is; `oeas` if absent.
    vendor: Option<String>,
    /// Its path within the vendor; without it, the names of the vendor's resources are read.
    path: Option<String>,
}

/// Read a resource, sealed to the attested key, or the names of a vendor's.
#[utoipa::path(
    get, path = "/resource/storage", params(Parameters), request_body(content = Option<ReadResource>),
    responses(
        (status = 200, body = String, description = "TeeGet: a compact JWE as a JSON text; VendorGet: an array of names"),
        (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
        (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
        (status = 422, body = ProblemDocument),
    ),
    security(("token" = []))
)]
pub async fn get(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, QueryRejection>,
    OptionalJson(body): OptionalJson<ReadResource>,
) -> Result<Json<Value>, Problem> {
    let malformed = |_| Problem::bad_request("query_malformed", "expected ?vendor=VENDOR&path=PATH");
    let Query(parameters) = parameters.map_err(malformed)?;
    let operation = match (body, parameters) {
        (Some(operation), Parameters { vendor: None, path: None }) => operation,
        (Some(_), _) => {
            return Err(Problem::bad_request(
                "resource_twice",
                "the resource is in the query and in the body",
            ));
        }
        (None, Parameters { vendor, path: Some(path) }) => {
            ReadResource::TeeGet { resource: Location { vendor, path } }
        }
        (None, Parameters { vendor: Some(vendor), path: None }) => ReadResource::VendorGet { vendor },
        (None, Parameters { vendor: None, path: None }) => {
            return Err(Problem::bad_request(
                "body_missing",
                "send TeeGet or VendorGet as JSON, or ?vendor=VENDOR&path=PATH",
            ));
        }
    };
    read(&service, &headers, operation).await
}

/// The same as GET, for clients that send no body with it. Changes are refused here: they are made on the admin plane.
#[utoipa::path(
    post, path = "/resource/storage", request_body = Operation,
    responses(
        (status = 200, body = String, description = "As of GET"),
        (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
        (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
        (status = 422, body = ProblemDocument),
    ),
    security(("token" = []))
)]
pub async fn post(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    OptionalJson(body): OptionalJson<Operation>,
) -> Result<Json<Value>, Problem> {
    match body {
        Some(Operation::Read(operation)) => read(&service, &headers, operation).await,
        Some(Operation::Change(_)) => Err(elsewhere()),
        None => Err(Problem::bad_request("body_missing", "this endpoint takes a JSON body, found none")),
    }
}

async fn read(
    service: &Service,
    headers: &HeaderMap,
    operation: ReadResource,
) -> Result<Json<Value>, Problem> {
    let claims = authenticate(service, headers).await?;
    match operation {
        ReadResource::TeeGet { resource } => {
            let name = ResourceName::new(resource.vendor.as_deref(), &resource.path).map_err(|error| {
                Problem::bad_request("resource_name_invalid", format!("resource: {error}"))
            })?;
            release(service, &claims, &name).await.map(|sealed| Json(json!(sealed)))
        }
        ReadResource::VendorGet { vendor } => {
            affirming(&claims)?;
            let entries = service.store.resources().await?;
            let names = entries.iter().filter(|entry| entry.name.vendor.as_str() == vendor);
            Ok(Json(names.map(|entry| entry.name.to_string()).collect()))
        }
    }
}

async fn release(service: &Service, claims: &Claims, name: &ResourceName) -> Result<String, Problem> {
    let release = service.release(claims, name).await?;
    let mut rng = service.environment.rng().map_err(|_: EntropyError| {
        Problem::unavailable("entropy_unavailable", "no randomness to encrypt the resource")
    })?;
    jose::encrypt(&release.key, &release.content, &mut rng).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, resource = %name, "sealing");
        Problem::unavailable("sealing_failed", "the resource could not be encrypted to the attested key")
    })
}

/// The claims of the bearer's token.
pub async fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Claims, Problem> {
    let token = bearer(headers).ok_or_else(|| {
        Problem::unauthorized(
            "token_missing",
            "send Authorization: Bearer with the token of POST /attestation",
        )
    })?;
    Ok(service.tokens.verify(token, service.environment.clock.now()).await?)
}

/// What is not secret, but nobody's business either, is told to accepted guests.
pub fn affirming(claims: &Claims) -> Result<(), Problem> {
    if claims.evaluation_reports.eval_result {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "appraisal_not_affirming",
        "the token says that the evidence was not accepted",
    ))
}
