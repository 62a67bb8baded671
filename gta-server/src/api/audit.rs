//! `GET /audit`: who changed what.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::problem::Problem;
use utoipa::IntoParams;

use super::collection::{asked, page_size};
use crate::auth::Caller;
use crate::json::with;
use crate::model::Role;
use crate::service::Shared;
use crate::store::{Kind, Mark};

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Of which kind of document.
    kind: Option<String>,
    /// Most that are wanted.
    limit: Option<usize>,
    /// What the page before has said.
    cursor: Option<String>,
}

/// List changes of the tenant's documents, the last first.
#[utoipa::path(
    get, path = "/audit", params(Query),
    responses((status = 200, body = Object, description = "`entries`, and `next_cursor` if there are more"))
)]
pub async fn list(
    State(service): State<Shared>,
    caller: Caller,
    query: Result<axum::extract::Query<Query>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Auditor])?;
    let query = asked(query)?;
    let limit = page_size(query.limit)?;
    if let Some(kind) = &query.kind
        && !Kind::ALL.iter().any(|known| known.name() == kind)
    {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        return Err(Problem::bad_request("kind_unknown", format!("kind is one of {}", known.join(", "))));
    }
    let before = match &query.cursor {
        Some(cursor) => mark(cursor)?,
        None => Mark { at: i64::MAX, kind: String::new(), seq: 0 },
    };
    // One more tells whether there is another page.
    let mut entries = service.store.audit(&caller.tenant, query.kind.as_deref(), &before, limit + 1).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let shown = entries.iter().map(|entry| {
        json!({
            "kind": entry.kind,
            "id": entry.id,
            "change": match (entry.deleted, entry.version) {
                (true, _) => "deleted",
                (false, 1) => "added",
                (false, _) => "changed",
            },
            "version": entry.version,
            "actor": entry.actor,
            "at": entry.at,
        })
    });
    let answer = json!({ "entries": shown.collect::<Vec<_>>() });
    match entries.last().filter(|_| more) {
        Some(last) => {
            Ok(Json(with(answer, "next_cursor", format!("{}.{}.{}", last.at, last.kind, last.seq))))
        }
        None => Ok(Json(answer)),
    }
}

fn mark(cursor: &str) -> Result<Mark, Problem> {
    let parse = || {
        let mut parts = cursor.splitn(3, '.');
        let (at, kind, seq) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Mark { at: at.parse().ok()?, kind: kind.to_owned(), seq: seq.parse().ok()? })
    };
    parse()
        .ok_or_else(|| Problem::bad_request("cursor_invalid", "cursor is the next_cursor of the page before"))
}
