//! `GET|POST /resource/storage`: a resource, encrypted to the key that a valid token confirms.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::Deserialize;

use crate::environment::EntropyError;
use crate::extract::RequiredJson;
use crate::names::ResourceName;
use crate::problem::Problem;
use crate::service::Service;
use crate::token::Claims;

/// secGear's request: an externally tagged operation. Only reading is public.
#[derive(Deserialize)]
pub enum Operation {
    TeeGet { resource: Location },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    #[serde(default)]
    vendor: Option<String>,
    path: String,
}

pub async fn release(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    RequiredJson(operation): RequiredJson<Operation>,
) -> Result<Json<String>, Problem> {
    let Operation::TeeGet { resource } = operation;
    let claims = authenticate(&service, &headers).await?;
    let name = ResourceName::new(resource.vendor.as_deref(), &resource.path)
        .map_err(|error| Problem::bad_request("resource_name_invalid", format!("resource: {error}")))?;
    let release = service.release(&claims, &name).await?;
    let mut rng = service.environment.rng().map_err(|_: EntropyError| {
        Problem::unavailable("entropy_unavailable", "no randomness to encrypt the resource")
    })?;
    let sealed = jose::encrypt(&release.key, &release.content, &mut rng).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, resource = %name, "sealing");
        Problem::unavailable("sealing_failed", "the resource could not be encrypted to the attested key")
    })?;
    Ok(Json(sealed))
}

async fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Claims, Problem> {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let token = token.ok_or_else(|| {
        Problem::unauthorized(
            "token_missing",
            "send Authorization: Bearer with the token of POST /attestation",
        )
    })?;
    Ok(service.tokens.verify(token, service.environment.clock.now()).await?)
}
