//! `/event`: changes of how nodes are, as pages and as a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::problem::Problem;
use utoipa::IntoParams;

use super::collection::{MAX_PAGE, asked, page_size};
use crate::auth::Caller;
use crate::health::Event;
use crate::model::Role;
use crate::service::Shared;
use crate::store::{Direction, Numbered};

/// How often the database is asked whether there is something new.
const PAUSE: Duration = Duration::from_secs(1);

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Of which node.
    node_id: Option<String>,
    /// Those before this number, the last first.
    before: Option<i64>,
    /// Those after this number, the first first.
    after: Option<i64>,
    /// Most that are wanted.
    limit: Option<usize>,
}

impl Query {
    fn prefix(&self) -> String {
        self.node_id.as_ref().map(|node| format!("{node}/")).unwrap_or_default()
    }
}

type Asked = Result<axum::extract::Query<Query>, QueryRejection>;

/// List events, the last first unless `after` says otherwise.
#[utoipa::path(get, path = "/event", params(Query), responses((status = 200, body = Object, description = "`events`")))]
pub async fn list(
    State(service): State<Shared>,
    caller: Caller,
    query: Asked,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Auditor, Role::RelyingParty])?;
    let query = asked(query)?;
    let limit = page_size(query.limit)?;
    let (seq, direction) = match query.after {
        Some(after) => (after, Direction::After),
        None => (query.before.unwrap_or(i64::MAX), Direction::Before),
    };
    let events =
        service.store.numbered::<Event>(&caller.tenant, seq, direction, &query.prefix(), limit).await?;
    let shown: Vec<Value> = events.iter().map(|event| event.document.body.shown(event.seq)).collect();
    Ok(Json(json!({ "events": shown })))
}

/// Events as they come (server-sent events): those after the header `Last-Event-ID`, after `after`, or from now on.
#[utoipa::path(
    get, path = "/event/stream",
    params(Query, ("Last-Event-ID" = Option<i64>, Header, description = "The number of the last one that was seen")),
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
pub async fn stream(
    State(service): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    query: Asked,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    caller.must_be(&[Role::Auditor, Role::RelyingParty])?;
    let query = asked(query)?;
    let resumed = headers.get("Last-Event-ID").and_then(|id| id.to_str().ok()?.parse().ok());
    let seq = match resumed.or(query.after) {
        Some(seq) => seq,
        None => service.store.last_number::<Event>().await?,
    };
    let subscriber = Subscriber { prefix: query.prefix(), service, caller, seq, waiting: VecDeque::new() };
    let messages = stream::unfold(subscriber, async |mut subscriber| {
        let message = subscriber.next().await?;
        Some((Ok(message), subscriber))
    });
    Ok(Sse::new(messages).keep_alive(KeepAlive::default()))
}

struct Subscriber {
    service: Shared,
    caller: Caller,
    prefix: String,
    seq: i64,
    waiting: VecDeque<Numbered<Event>>,
}

impl Subscriber {
    /// The next event; `None` ends the stream, and the client comes again with what it has seen last.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.seq = event.seq;
                let Event { status, .. } = &event.document.body;
                let data = event.document.body.shown(event.seq).to_string();
                return Some(Message::default().id(event.seq.to_string()).event(status.name()).data(data));
            }
            if self.service.is_stopping() || !self.still_allowed().await {
                return None;
            }
            let after = Direction::After;
            let tenant = &self.caller.tenant;
            let found = self.service.store.numbered(tenant, self.seq, after, &self.prefix, MAX_PAGE).await;
            self.waiting = found
                .inspect_err(|error| {
                    tracing::error!(error = error as &dyn std::error::Error, "event stream");
                })
                .ok()?
                .into();
            if self.waiting.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Who may no more, by a key or identity that was taken away or a token that has expired, gets nothing more.
    async fn still_allowed(&self) -> bool {
        self.service.is_still_there(&self.caller).await.unwrap_or(false)
    }
}
