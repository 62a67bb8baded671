//! `GET|POST /resource/storage`: a resource, encrypted to the key that a valid token confirms.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use jose::Jwk;
use serde::Deserialize;

use crate::environment::EntropyError;
use crate::extract::RequiredJson;
use crate::names::ResourceName;
use crate::problem::Problem;
use crate::service::Service;
use crate::token::{Claims, TokenError};

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
    let claims = authenticate(&service, &headers)?;
    let key = authorize(&claims)?;
    let name = ResourceName::new(resource.vendor.as_deref(), &resource.path)
        .map_err(|error| Problem::bad_request("resource_name_invalid", format!("resource: {error}")))?;
    let content = service.store.resource(&name).await?.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "resource_unknown", format!("there is no resource {name}"))
    })?;
    let mut rng = service.environment.rng().map_err(|_: EntropyError| {
        Problem::unavailable("entropy_unavailable", "no randomness to encrypt the resource")
    })?;
    let sealed = jose::encrypt(key, &content, &mut rng).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, resource = %name, "sealing");
        Problem::unavailable("sealing_failed", "the resource could not be encrypted to the attested key")
    })?;
    tracing::info!(resource = %name, jti = claims.jti, key = hex::encode(key.thumbprint()), "resource released");
    Ok(Json(sealed))
}

fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Claims, Problem> {
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
    service.tokens.verify(token, service.environment.clock.now()).map_err(|error| {
        let code = match error {
            TokenError::Invalid | TokenError::Signing => "token_invalid",
            TokenError::Audience => "token_audience",
            TokenError::Expired => "token_expired",
        };
        Problem::unauthorized(code, error.to_string())
    })
}

/// The resource policy: the appraisal is affirming, and there is an attested key to encrypt to.
fn authorize(claims: &Claims) -> Result<&Jwk, Problem> {
    if !claims.evaluation_reports.eval_result {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "appraisal_not_affirming",
            "the token says that the evidence was not accepted",
        ));
    }
    let confirmation = claims.cnf.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::FORBIDDEN,
            "no_bound_key",
            "the token confirms no key; attest with tee_key and its thumbprint in the challenge",
        )
    })?;
    Ok(&confirmation.jwk)
}
