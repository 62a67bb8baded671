//! What the collections of a tenant have in common: look-up by id or type, pages, deletion.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::problem::Problem;
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::json::with;
use crate::model::Role;
use crate::service::{Service, Shared};
use crate::store::{Change, Document, Registered, StoreError};

/// Most items on a page, and most ids in a request.
pub const MAX_PAGE: usize = 100;

/// A collection of documents.
pub trait Collected: Registered {
    /// What the list is called in answers.
    const PLURAL: &'static str;

    /// Whether the document has this type.
    fn has_type(&self, name: &str) -> bool;

    /// The document with its content.
    fn full(document: &Document<Self>) -> Value;

    /// The document without it.
    fn brief(document: &Document<Self>) -> Value;

    /// Takes away, with the document, what is known of it elsewhere.
    fn forget(
        _change: &mut Change,
        _tenant: &str,
        _id: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Which documents to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Their ids, with commas between them.
    pub ids: Option<String>,
    /// Their type; of certificates, `cert_type`.
    #[serde(alias = "cert_type")]
    pub attester_type: Option<String>,
    /// What is in their names.
    pub search: Option<String>,
    /// Most that are wanted.
    pub limit: Option<usize>,
    /// The name of the last one on the page before.
    pub cursor: Option<String>,
}

/// Which documents to delete.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Deletion {
    delete_type: DeleteType,
    /// Those of `id`.
    #[serde(default)]
    ids: Vec<String>,
    /// That of `type`, which this member may be called, too.
    #[serde(alias = "type")]
    attester_type: Option<String>,
}

impl Deletion {
    /// Whether it is about documents of this type.
    pub fn is_of_type(&self, name: &str) -> bool {
        self.attester_type.as_deref() == Some(name)
    }
}

/// By what they are named.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DeleteType {
    #[serde(alias = "ids")]
    Id,
    #[serde(alias = "attester_type")]
    Type,
    All,
}

/// A page of the caller's documents; asked for by ids, they come with their content.
pub async fn list<T: Collected>(
    service: &Service,
    caller: &Caller,
    query: Query,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Auditor])?;
    let documents = service.store.list::<T>(&caller.tenant).await?;
    if let Some(asked) = &query.ids {
        let ids = Ids::new(asked);
        bounded(ids.each.len())?;
        let found: Vec<Value> =
            documents.iter().filter(|document| ids.has(&document.id)).map(T::full).collect();
        return Ok(Json(json!({ T::PLURAL: found })));
    }
    let limit = page_size(query.limit)?;
    let after = query.cursor.as_deref().unwrap_or_default();
    let mut wanted = documents.iter().filter(|document| {
        document.name.as_str() > after
            && query.attester_type.as_ref().is_none_or(|kind| document.body.has_type(kind))
            && query.search.as_ref().is_none_or(|text| contains(&document.name, text))
    });
    let page: Vec<&Document<T>> = wanted.by_ref().take(limit).collect();
    let mut answer = json!({ T::PLURAL: page.iter().map(|document| T::brief(document)).collect::<Vec<_>>() });
    if wanted.next().is_some()
        && let Some(last) = page.last()
    {
        answer = with(answer, "next_cursor", last.name.as_str());
    }
    Ok(Json(answer))
}

/// A document of the caller.
pub async fn find<T: Collected>(
    service: &Service,
    caller: &Caller,
    id: &str,
) -> Result<Document<T>, Problem> {
    let found = service.store.get::<T>(&caller.tenant, id).await?;
    found.ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown", "there is nothing with one of these ids")
}

/// Deletes documents of the caller. An id that is not one of theirs is an error, and then nothing is deleted.
pub async fn remove<T: Collected>(
    State(service): State<Shared>,
    caller: Caller,
    request: Deletion,
) -> Result<StatusCode, Problem> {
    caller.must_be(&[])?;
    let documents = service.store.list::<T>(&caller.tenant).await?;
    let doomed: Vec<&Document<T>> = match (request.delete_type, &request.attester_type) {
        (DeleteType::All, _) => documents.iter().collect(),
        (DeleteType::Type, Some(kind)) => {
            documents.iter().filter(|document| document.body.has_type(kind)).collect()
        }
        (DeleteType::Type, None) => {
            return Err(Problem::bad_request("type_missing", "deletion by type needs a type"));
        }
        (DeleteType::Id, _) => {
            bounded(request.ids.len())?;
            let mut doomed = Vec::new();
            for id in &request.ids {
                doomed.push(documents.iter().find(|document| document.id == *id).ok_or_else(unknown)?);
            }
            doomed
        }
    };
    let mut change = service.store.change(&caller.name).await?;
    for document in &doomed {
        change.remove(&caller.tenant, document).await?;
        T::forget(&mut change, &caller.tenant, &document.id).await?;
    }
    change.commit().await?;
    Ok(StatusCode::OK)
}

/// The ids in a list with commas between them. A name may have commas itself: the whole list is one, too.
pub struct Ids<'a> {
    whole: &'a str,
    each: Vec<&'a str>,
}

impl<'a> Ids<'a> {
    /// Reads a list.
    pub fn new(list: &'a str) -> Self {
        Self { whole: list, each: list.split(',').collect() }
    }

    /// Whether this one is in it.
    pub fn has(&self, id: &str) -> bool {
        self.whole == id || self.each.contains(&id)
    }
}

/// Whether a name has this in it, in small letters or capitals.
pub fn contains(name: &str, text: &str) -> bool {
    name.to_lowercase().contains(&text.to_lowercase())
}

/// How many items a page has.
///
/// # Errors
/// 400 `limit_invalid`.
pub fn page_size(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(MAX_PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::bad_request("limit_invalid", format!("limit is 1 to {MAX_PAGE}")))
}

/// A bound of the ids in a request.
///
/// # Errors
/// 400 `ids_invalid`.
pub fn bounded(ids: usize) -> Result<(), Problem> {
    if (1..=MAX_PAGE).contains(&ids) {
        return Ok(());
    }
    Err(Problem::bad_request("ids_invalid", format!("1 to {MAX_PAGE} ids at once")))
}

/// The handlers of a collection that is listed and deleted from in the usual way.
macro_rules! handlers {
    ($type:ty, $path:literal) => {
        /// List them by name, in pages without their content, or some by their ids with it.
        #[utoipa::path(
            get, path = $path, params($crate::api::collection::Query),
            responses((status = 200, body = Object, description = "The list, and `next_cursor` if there are more"))
        )]
        pub async fn list(
            axum::extract::State(service): axum::extract::State<$crate::service::Shared>,
            caller: $crate::auth::Caller,
            query: Result<
                axum::extract::Query<$crate::api::collection::Query>,
                axum::extract::rejection::QueryRejection,
            >,
        ) -> Result<axum::Json<serde_json::Value>, service_kit::problem::Problem> {
            let query = $crate::api::collection::query(query)?;
            $crate::api::collection::list::<$type>(&service, &caller, query).await
        }

        /// Delete some; all or nothing.
        #[utoipa::path(
            delete, path = $path, request_body = $crate::api::collection::Deletion,
            responses(
                (status = 200, description = "They are gone"),
                (status = 404, description = "There is nothing with one of these ids"),
            )
        )]
        pub async fn remove(
            state: axum::extract::State<$crate::service::Shared>,
            caller: $crate::auth::Caller,
            service_kit::extract::RequiredJson(request): service_kit::extract::RequiredJson<
                $crate::api::collection::Deletion,
            >,
        ) -> Result<axum::http::StatusCode, service_kit::problem::Problem> {
            $crate::api::collection::remove::<$type>(state, caller, request).await
        }
    };
}
pub(super) use handlers;

/// The query of a call that the Global Trust Authority does not have, or what is wrong with it.
pub fn asked<T>(
    query: Result<axum::extract::Query<T>, axum::extract::rejection::QueryRejection>,
) -> Result<T, Problem> {
    query.map(|query| query.0).map_err(|error| Problem::bad_request("query_unsupported", error.body_text()))
}

/// The query of one of its own calls; its clients know the text of the refusal.
pub fn query(
    query: Result<axum::extract::Query<Query>, axum::extract::rejection::QueryRejection>,
) -> Result<Query, Problem> {
    query
        .map(|query| query.0)
        .map_err(|_| Problem::bad_request("query_unsupported", "Unsupported query parameter"))
}
