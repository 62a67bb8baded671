//! `/signing-keys`: the keys that sign tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::identity::Operator;
use super::{Intent, found};
use crate::api::{NewSigningKeyDocument, SigningKeyDocument};
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::Service;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<SigningKeyDocument>>, Problem> {
    let keys = service.store.signing_keys().await?.into_iter().map(|key| SigningKeyDocument {
        kid: key.kid,
        algorithm: key.algorithm,
        activates_at: key.activates_at,
    });
    Ok(Json(keys.collect()))
}

/// Makes a key. The old ones stay published until their last token has expired.
pub async fn rotate(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<NewSigningKeyDocument>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let activates_at = service.environment.clock.now().saturating_add(document.activates_in.into());
    let kid = service.tokens.rotate(document.algorithm, activates_at, &operator.name).await?;
    Ok((StatusCode::CREATED, Json(json!({ "kid": kid, "activates_at": activates_at }))))
}

/// Takes a key away at once: its tokens count no more.
pub async fn remove(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path(kid): Path<String>,
) -> Result<StatusCode, Problem> {
    // A thumbprint: 32 bytes in base64url.
    if kid.len() != 43 || !kid.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) {
        return Err(Problem::bad_request(
            "name_invalid",
            "a signing key is named by its thumbprint, 43 characters",
        ));
    }
    let intent = Intent { operator: &operator, action: "signing_key.delete", object: &kid, digest: None };
    service
        .change(intent, async |change| found("signing key", &kid, change.delete_signing_key(&kid).await?))
        .await
}
