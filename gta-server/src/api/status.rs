//! `/status`: how nodes are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use utoipa::{IntoParams, ToSchema};

use super::collection::{Ids, asked, bounded, contains, page_size};
use super::name;
use crate::auth::Caller;
use crate::health::{EvidenceHealth, Health, NodeHealth};
use crate::json::with;
use crate::model::{AttesterType, Role};
use crate::service::Shared;

/// Which nodes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Their names, with commas between them.
    ids: Option<String>,
    /// How they are: `passed`, `failed`, `refused` or `missed`.
    #[param(value_type = Option<String>)]
    status: Option<Health>,
    /// What is in their names.
    search: Option<String>,
    /// Most that are wanted.
    limit: Option<usize>,
    /// The name of the last one on the page before.
    cursor: Option<String>,
}

/// List nodes that have reported, and count all of them by how they are.
#[utoipa::path(
    get, path = "/status", params(Query),
    responses((status = 200, body = Object, description = "`nodes`, `counts`, and `next_cursor` if there are more"))
)]
pub async fn list(
    State(service): State<Shared>,
    caller: Caller,
    query: Result<axum::extract::Query<Query>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Auditor, Role::RelyingParty])?;
    let query = asked(query)?;
    let limit = page_size(query.limit)?;
    let ids = query.ids.as_deref().map(Ids::new);
    let after = query.cursor.as_deref().unwrap_or_default();
    let states = service.store.states::<NodeHealth>(&caller.tenant).await?;
    let mut counts: BTreeMap<Health, usize> = BTreeMap::new();
    for (_, stored) in &states {
        *counts.entry(stored.state.status()).or_default() += 1;
    }
    let mut wanted = states.iter().filter(|(id, stored)| {
        id.as_str() > after
            && query.status.is_none_or(|status| status == stored.state.status())
            && query.search.as_ref().is_none_or(|text| contains(id, text))
            && ids.as_ref().is_none_or(|ids| ids.has(id))
    });
    let page: Vec<&(String, _)> = wanted.by_ref().take(limit).collect();
    let nodes: Vec<Value> = page.iter().map(|(id, stored)| shown(id, &stored.state)).collect();
    let mut answer = json!({ "nodes": nodes, "counts": counts });
    if wanted.next().is_some()
        && let Some((last, _)) = page.last()
    {
        answer = with(answer, "next_cursor", last.as_str());
    }
    Ok(Json(answer))
}

fn shown(id: &str, health: &NodeHealth) -> Value {
    let mut shown = json!({
        "node_id": id,
        "status": health.status(),
        "since": health.since,
        "reported_at": health.reported_at,
        "reports": health.reports,
        "attester_types": health.evidences.keys().collect::<Vec<_>>(),
    });
    if let Some(reason) = health.reason() {
        shown = with(shown, "reason", json!(reason));
    }
    let by_type = |(kind, known): (&AttesterType, &EvidenceHealth)| {
        (kind.name().to_owned(), with_deadline(json!(known), known.deadline()))
    };
    let evidences: Map<String, Value> = health.evidences.iter().map(by_type).collect();
    with(with_deadline(shown, health.deadline()), "evidences", evidences)
}

fn with_deadline(shown: Value, deadline: Option<i64>) -> Value {
    match deadline {
        Some(deadline) => with(shown, "deadline", deadline),
        None => shown,
    }
}

/// Which nodes to forget.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Forgotten {
    ids: Vec<String>,
}

/// Forget how nodes are, of which no report is to be missed any more.
#[utoipa::path(
    delete, path = "/status", request_body = Forgotten,
    responses((status = 200, description = "Nothing is known of how they are"))
)]
pub async fn forget(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<Forgotten>,
) -> Result<StatusCode, Problem> {
    caller.must_be(&[])?;
    bounded(request.ids.len())?;
    for id in &request.ids {
        name("ids", id)?;
        service.store.forget_state::<NodeHealth>(&caller.tenant, id).await?;
    }
    Ok(StatusCode::OK)
}
