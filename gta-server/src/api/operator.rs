//! What the operator's monitoring asks: `/metrics` and `/health`, in clear, for their own network.

use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use service_kit::metrics::MEDIA_TYPE;
use service_kit::problem::Problem;

use crate::service::Shared;

/// The router of the listener for monitoring.
pub fn router(service: Shared) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/health", get(health)).with_state(service)
}

async fn metrics(State(service): State<Shared>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, MEDIA_TYPE)], service.metrics.text())
}

/// Whether the service and its database answer.
pub async fn health(State(service): State<Shared>) -> Result<Json<Value>, Problem> {
    service.store.ping().await?;
    Ok(Json(json!({ "status": "ok" })))
}
