//! `/webhook`: where a tenant wants to be told of changes of how its nodes are. For administrators only: whoever knows
//! a URL may be able to use it.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use service_kit::vault::Sealed;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::collection::{self, Collected, Deletion, Query};
use super::{description, name, room};
use crate::auth::Caller;
use crate::health::{Event, Health};
use crate::json::with;
use crate::model::Webhook;
use crate::service::{Service, Shared, no_entropy};
use crate::store::{Change, Document, StoreError};
use crate::webhooks::target::Target;
use crate::webhooks::{Delivery, Secret, authorities};

/// Longest certificates, in bytes.
const MAX_CA: usize = 64 * 1024;
/// How often a delivery is set going that somebody is at work with.
const TRIES: usize = 5;

/// A webhook.
#[derive(Deserialize, ToSchema)]
pub struct NewWebhook {
    name: String,
    description: Option<String>,
    url: String,
    /// What it is told of: `passed`, `failed`, `refused`, `missed`; of all if none is named.
    #[schema(value_type = Option<Vec<String>>)]
    events: Option<BTreeSet<Health>>,
    /// Certificates of its authorities in PEM, if they are others than those that browsers know.
    ca: Option<String>,
}

/// What is to be other of a webhook.
#[derive(Deserialize, ToSchema)]
pub struct ChangedWebhook {
    id: String,
    name: Option<String>,
    description: Option<String>,
    url: Option<String>,
    #[schema(value_type = Option<Vec<String>>)]
    events: Option<BTreeSet<Health>>,
    ca: Option<String>,
    /// Whether another secret is to take the place of the old one.
    #[serde(default)]
    new_secret: bool,
}

/// List them by name, in pages, or some by their ids, with how far each is.
#[utoipa::path(
    get, path = "/webhook", params(Query),
    responses((status = 200, body = Object, description = "`webhooks`, and `next_cursor` if there are more"))
)]
pub async fn list(
    State(service): State<Shared>,
    caller: Caller,
    query: Result<axum::extract::Query<Query>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    let Json(mut answer) = collection::list::<Webhook>(&service, &caller, collection::query(query)?).await?;
    let states = service.store.states::<Delivery>(&caller.tenant).await?;
    let states: BTreeMap<String, Delivery> =
        states.into_iter().map(|(id, stored)| (id, stored.state)).collect();
    for webhook in answer.get_mut(Webhook::PLURAL).and_then(Value::as_array_mut).into_iter().flatten() {
        let delivery = webhook.get("id").and_then(|id| states.get(id.as_str()?));
        if let Some(delivery) = delivery {
            *webhook = with(webhook.take(), "delivery", shown(delivery));
        }
    }
    Ok(Json(answer))
}

fn shown(delivery: &Delivery) -> Value {
    let shown = json!({ "seq": delivery.cursor, "failures": delivery.failures });
    match (&delivery.problem, delivery.next_at) {
        (Some(problem), Some(next_at)) => with(with(shown, "problem", problem.as_str()), "next_at", next_at),
        _ => shown,
    }
}

/// Add a webhook, which is told of what happens from now on. The answer is the only one that has its secret.
#[utoipa::path(
    post, path = "/webhook", request_body = NewWebhook,
    responses(
        (status = 200, body = Object, description = "`webhook`: `id`, `name`, `version`, `secret`"),
        (status = 409, description = "The name is taken, or there are as many as there may be"),
    )
)]
pub async fn add(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<NewWebhook>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    name("name", &request.name)?;
    let description = description(request.description)?;
    let url = url(&service, request.url)?;
    let events = events(request.events.unwrap_or_else(|| BTreeSet::from(Health::ALL)))?;
    let ca = certificates(request.ca)?;
    let present = service.store.count::<Webhook>(&caller.tenant).await?;
    room("webhooks", present, service.settings.max_webhooks)?;
    let id = service.new_id()?;
    let (text, secret) = new_secret(&service, &caller.tenant, &id).await?;
    let update_time = service.now().saturating_mul(1000);
    let webhook = Webhook { description, url, events, ca, secret, update_time };
    let from_now_on = Delivery::new(service.store.last_number::<Event>().await?);
    let mut change = service.store.change(&caller.name).await?;
    change.add(&caller.tenant, &id, &request.name, &webhook).await?;
    change.set_state(&caller.tenant, &id, None, &from_now_on).await?;
    change.commit().await?;
    let answer = json!({ "id": id, "name": request.name, "version": 1, "secret": *text });
    Ok(Json(json!({ "webhook": answer })))
}

/// Change a webhook, and try again at once what it was not told. What is not sent stays.
#[utoipa::path(
    put, path = "/webhook", request_body = ChangedWebhook,
    responses(
        (
            status = 200, body = Object,
            description = "`webhook`: `id`, `name`, `version`, and `secret` if it is a new one"
        ),
        (status = 404, description = "There is no such webhook"),
        (status = 409, description = "The name is taken"),
    )
)]
pub async fn replace(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<ChangedWebhook>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    let before = collection::find::<Webhook>(&service, &caller, &request.id).await?;
    let mut webhook = before.body.clone();
    let new_name = request.name.unwrap_or_else(|| before.name.clone());
    name("name", &new_name)?;
    if request.description.is_some() {
        webhook.description = description(request.description)?;
    }
    if let Some(sent) = request.url {
        webhook.url = url(&service, sent)?;
    }
    if let Some(sent) = request.events {
        webhook.events = events(sent)?;
    }
    if request.ca.is_some() {
        webhook.ca = certificates(request.ca)?;
    }
    let mut secret = None;
    if request.new_secret {
        let (text, sealed) = new_secret(&service, &caller.tenant, &before.id).await?;
        (secret, webhook.secret) = (Some(text), sealed);
    }
    webhook.update_time = service.now().saturating_mul(1000);
    let mut change = service.store.change(&caller.name).await?;
    let version = change.replace(&caller.tenant, &before, &new_name, &webhook).await?;
    change.commit().await?;
    try_at_once(&service, &caller.tenant, &before.id).await?;
    let answer = json!({ "id": before.id, "name": new_name, "version": version });
    let answer = match secret {
        Some(secret) => with(answer, "secret", secret.as_str()),
        None => answer,
    };
    Ok(Json(json!({ "webhook": answer })))
}

/// Sets a delivery going, from whoever is at work with what the webhook was before.
async fn try_at_once(service: &Service, tenant: &str, id: &str) -> Result<(), StoreError> {
    for _ in 0..TRIES {
        let Some(before) = service.store.state::<Delivery>(tenant, id).await? else { return Ok(()) };
        let again = Delivery::new(before.state.cursor).at(service.now().saturating_sub(1));
        match service.store.set_state(tenant, id, Some(&before), &again).await {
            Err(StoreError::Conflict(_)) => {}
            done => return done,
        }
    }
    // It makes progress, then, and looks at the webhook again at its next turn.
    Ok(())
}

/// Delete webhooks, all or nothing, and forget how far they are.
#[utoipa::path(
    delete, path = "/webhook", request_body = Deletion,
    responses(
        (status = 200, description = "They are gone"),
        (status = 404, description = "There is nothing with one of these ids"),
    )
)]
pub async fn remove(
    state: State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<Deletion>,
) -> Result<StatusCode, Problem> {
    collection::remove::<Webhook>(state, caller, request).await
}

fn url(service: &Service, url: String) -> Result<String, Problem> {
    Target::parse(&url, service.settings.webhook_allow_private)
        .map_err(|error| Problem::bad_request("url_invalid", error.to_string()))?;
    Ok(url)
}

fn events(events: BTreeSet<Health>) -> Result<BTreeSet<Health>, Problem> {
    if events.is_empty() {
        return Err(Problem::bad_request("events_missing", "events names at least one status of nodes"));
    }
    Ok(events)
}

/// An empty text stands for none.
fn certificates(pem: Option<String>) -> Result<Option<String>, Problem> {
    let Some(pem) = pem.filter(|pem| !pem.is_empty()) else { return Ok(None) };
    if pem.len() > MAX_CA || authorities(&pem).is_none() {
        return Err(Problem::bad_request(
            "ca_invalid",
            format!("ca has certificates of authorities in PEM, of at most {MAX_CA} bytes together"),
        ));
    }
    Ok(Some(pem))
}

async fn new_secret(
    service: &Service,
    tenant: &str,
    id: &str,
) -> Result<(Zeroizing<String>, Sealed), Problem> {
    let secret = Secret::generate(&service.environment).map_err(no_entropy)?;
    let context = Webhook::context(tenant, id);
    let sealed = service.store.keys().seal_secret(&context, secret.as_bytes()).await?;
    Ok((secret.text(), sealed))
}

impl Collected for Webhook {
    const PLURAL: &'static str = "webhooks";

    fn has_type(&self, name: &str) -> bool {
        self.events.iter().any(|status| status.name() == name)
    }

    fn full(document: &Document<Self>) -> Value {
        let Webhook { description, url, events, ca, update_time, .. } = &document.body;
        let full = json!({
            "id": document.id,
            "name": document.name,
            "description": description,
            "url": url,
            "events": events,
            "version": document.version,
            "update_time": update_time,
        });
        match ca {
            Some(ca) => with(full, "ca", ca.as_str()),
            None => full,
        }
    }

    fn brief(document: &Document<Self>) -> Value {
        let Webhook { url, events, update_time, .. } = &document.body;
        json!({
            "id": document.id,
            "name": document.name,
            "url": url,
            "events": events,
            "update_time": update_time,
        })
    }

    async fn forget(change: &mut Change, tenant: &str, id: &str) -> Result<(), StoreError> {
        change.forget_state::<Delivery>(tenant, id).await
    }
}
