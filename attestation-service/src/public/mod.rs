//! The public plane: challenges, attestation, resources, the key-broker protocol, keys, health, and the description of all
//! these. What changes something is on the admin plane.

#![allow(unused_qualifications, reason = "utoipa's macros write paths out")]

mod attestation;
mod challenge;
pub mod kbs;
mod openapi;
pub mod policies;
pub mod resource;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http;
use crate::metrics::Plane;
use crate::problem::{Problem, ProblemDocument};
use crate::service::Service;

/// secGear's name for the cookie that holds a session.
pub const SESSION_COOKIE: &str = "oeas-session-id";

/// Every route with its description: what is not described is not served.
fn described() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(challenge::get, challenge::post))
        .routes(routes!(attestation::attest))
        .routes(routes!(policies::policy, policies::refuse_policy))
        .routes(routes!(policies::refuse_reference))
        .routes(routes!(resource::get, resource::post))
        .routes(routes!(policies::resource_policy, policies::refuse_resource_policy))
        .routes(routes!(kbs::auth))
        .routes(routes!(kbs::attest))
        .routes(routes!(kbs::resource, kbs::refuse_write))
        .routes(routes!(keys))
        .routes(routes!(health))
        .routes(routes!(openapi::document))
}

/// The router of the public listener.
pub fn router(service: Arc<Service>) -> Router {
    let (routes, _) = described().split_for_parts();
    http::dress(routes, service.observer(Plane::Public)).with_state(service)
}

/// The public keys that verify tokens.
#[utoipa::path(
    get, path = "/.well-known/jwks.json",
    responses((status = 200, body = Object, description = "A JWK set (RFC 7517 section 5)"))
)]
async fn keys(State(service): State<Arc<Service>>) -> Result<Json<Value>, Problem> {
    Ok(Json(service.tokens.key_set().await?))
}

/// The router of the metrics listener, for the operator's own network: no TLS, nothing secret.
pub fn metrics_router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/metrics", get(crate::admin::metrics))
        .route("/healthz", get(health))
        .with_state(service)
}

/// Whether the service and its database answer.
#[utoipa::path(
    get, path = "/healthz", responses((status = 200, body = Object), (status = 503, body = ProblemDocument))
)]
async fn health(State(service): State<Arc<Service>>) -> Result<Json<Value>, Problem> {
    service.store.ping().await?;
    Ok(Json(json!({ "status": "ok" })))
}

/// The answer to whoever wants to change something here.
pub fn elsewhere() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "admin_plane_only",
        "nothing is changed on the public listener: send the same request to the admin plane, which is the service's admin \
         socket, or its --admin-listen address with a client certificate or an admin token",
    )
}
