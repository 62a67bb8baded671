//! The public plane: challenge, attestation, resource, keys, health.

mod attestation;
mod challenge;
mod resource;

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::http;
use crate::metrics::Plane;
use crate::problem::Problem;
use crate::service::Service;

/// secGear's name for the cookie that holds a session.
pub const SESSION_COOKIE: &str = "oeas-session-id";

/// The router of the public listener.
pub fn router(service: Arc<Service>) -> Router {
    let routes = Router::new()
        .route("/challenge", get(challenge::issue).post(challenge::issue))
        .route("/attestation", post(attestation::attest))
        // secGear reads resources with GET and a body, which some proxies drop: the same with POST.
        .route("/resource/storage", get(resource::release).post(resource::release))
        .route("/.well-known/jwks.json", get(keys))
        .route("/healthz", get(health));
    http::dress(routes, Plane::Public, &service).with_state(service)
}

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

async fn health(State(service): State<Arc<Service>>) -> Result<Json<Value>, Problem> {
    service.store.ping().await?;
    Ok(Json(json!({ "status": "ok" })))
}
