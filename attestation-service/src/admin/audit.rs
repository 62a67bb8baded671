//! `/audit`: what was changed and released.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use crate::api::AuditDocument;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::audit::Recorded;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The entries after this one.
    #[serde(default)]
    after: i64,
    /// How many at most.
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    100
}

pub async fn list(
    State(service): State<Arc<Service>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Vec<AuditDocument>>, Problem> {
    let Query(page) =
        page.map_err(|_| Problem::bad_request("query_malformed", "expected ?after=SEQ&limit=COUNT"))?;
    let document = |recorded: Recorded| AuditDocument {
        seq: recorded.seq,
        at: recorded.at,
        actor: recorded.actor,
        action: recorded.action,
        object: recorded.object,
        digest: recorded.digest.map(hex::encode),
        result: recorded.result,
    };
    let recorded = service.store.audit_log(page.after, page.limit).await?;
    Ok(Json(recorded.into_iter().map(document).collect()))
}
