//! The admin plane: what is trusted, which policies hold, what is released. Every change is in the audit log.

mod anchors;
mod audit;
mod bundles;
mod corim;
mod corim_signers;
pub mod credentials;
pub mod identity;
mod platform_references;
mod policies;
mod references;
mod resource_policies;
mod resources;
mod secgear;
mod signing_keys;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::middleware;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use service_kit::metrics::MEDIA_TYPE;
use verifier::rego::CompileError;
use verifier::{Provenance, PublicKey, denied};

use self::credentials::{Credentials, authenticate};
use self::identity::{Operator, Role, require};
use crate::http;
use crate::metrics::Plane;
use crate::names::Name;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::audit::{Entry, OK};
use crate::store::{Change, StoreError};

/// Without it a note could fill the database.
const MAX_SOURCE: usize = 512;

/// The router of both admin listeners. Whoever it serves was authenticated by the listener, which puts an [`Operator`]
/// into the request; a request without one is refused.
pub fn router(service: Arc<Service>) -> Router {
    let reading = Router::new()
        .route("/trust-anchors", get(anchors::list))
        .route("/trust-bundles", get(bundles::list))
        .route("/crls", get(bundles::list_crls))
        .route("/references", get(references::list))
        .route("/platform-references", get(platform_references::list))
        .route("/corim/realms", get(corim::export_realms))
        .route("/corim/platforms", get(corim::export_platforms))
        .route("/corim-signers", get(corim_signers::list))
        .route("/named-references", get(references::list_named))
        .route("/policies", get(policies::list))
        .route("/policies/{id}", get(policies::versions))
        .route("/resource-policies", get(resource_policies::list))
        .route("/resources", get(resources::list))
        .route("/signing-keys", get(signing_keys::list))
        .route("/audit", get(audit::list))
        .route("/metrics", get(metrics))
        .merge(secgear::reading());
    let policy = secgear::policy()
        .route("/references", post(references::add))
        .route("/references/{name}", delete(references::remove))
        .route("/platform-references", post(platform_references::add))
        .route("/platform-references/{name}", delete(platform_references::remove))
        .route("/corim", post(corim::import))
        .route("/named-references", post(references::add_named))
        .route("/named-references/{name}", delete(references::remove_named))
        .route("/policies", post(policies::add).put(policies::replace))
        .route("/policies/{id}", delete(policies::remove));
    let resource = secgear::resource()
        .route("/resource-policies", post(resource_policies::set))
        .route("/resource-policies/{vendor}/{id}", delete(resource_policies::remove))
        .route("/resources", post(resources::add).put(resources::replace))
        .route("/resources/{vendor}/{*path}", delete(resources::remove))
        .route("/bindings", post(resources::bind).delete(resources::unbind));
    let everything = Router::new()
        .route("/trust-anchors", post(anchors::add))
        .route("/trust-anchors/{name}", delete(anchors::remove))
        .route("/trust-bundles", post(bundles::add))
        .route("/trust-bundles/{name}", delete(bundles::remove))
        .route("/corim-signers", post(corim_signers::add))
        .route("/corim-signers/{name}", delete(corim_signers::remove))
        .route("/crls", post(bundles::set_crl))
        .route("/crls/{name}", delete(bundles::remove_crl))
        .route("/signing-keys", post(signing_keys::rotate))
        .route("/signing-keys/{kid}", delete(signing_keys::remove));
    let with = |routes: Router<Arc<Service>>, role| {
        routes.route_layer(middleware::from_fn_with_state(role, require))
    };
    let routes = with(reading, Role::Reader)
        .merge(with(policy, Role::PolicyAdmin))
        .merge(with(resource, Role::ResourceAdmin))
        .merge(with(everything, Role::Admin));
    // The outer one tells strangers the same about every path.
    http::dress(routes, service.observer(Plane::Admin))
        .layer(middleware::from_fn_with_state(Role::Reader, require))
        .with_state(service)
}

/// What the service counts.
pub async fn metrics(State(service): State<Arc<Service>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, MEDIA_TYPE)], service.metrics.text())
}

/// The router of the TCP listener: operators prove who they are by `credentials`.
pub fn remote_router(service: Arc<Service>, credentials: Arc<Credentials>) -> Router {
    router(service).layer(middleware::from_fn_with_state(credentials, authenticate))
}

/// Who wants to do what to what; for the audit log.
struct Intent<'a> {
    operator: &'a Operator,
    action: &'static str,
    object: &'a str,
    digest: Option<[u8; 32]>,
}

impl Service {
    /// Makes a change and records it, or records why it was not made.
    async fn change<T>(
        &self,
        intent: Intent<'_>,
        work: impl AsyncFnOnce(&mut Change) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let Intent { operator, action, object, digest } = intent;
        let at = self.environment.clock.now();
        let entry = |result| Entry { at, actor: &operator.name, action, object, digest, result };
        let mut change = self.store.change().await?;
        match work(&mut change).await {
            Ok(done) => {
                change.commit(&entry(OK)).await?;
                tracing::info!(operator = operator.name, action, object, "changed");
                Ok(done)
            }
            Err(problem) => {
                drop(change);
                tracing::info!(operator = operator.name, action, object, code = problem.code, "not changed");
                self.store.record(&entry(problem.code)).await?;
                Err(problem)
            }
        }
    }
}

impl Service {
    /// Removes what a path names, and records it.
    async fn remove(
        &self,
        operator: &Operator,
        action: &'static str,
        what: &str,
        text: &str,
        delete: impl AsyncFnOnce(&mut Change, &str) -> Result<bool, StoreError>,
    ) -> Result<StatusCode, Problem> {
        let name = name(text)?;
        let intent = Intent { operator, action, object: name.as_str(), digest: None };
        self.change(intent, async |change| found(what, name.as_str(), delete(change, name.as_str()).await?))
            .await
    }
}

/// What is stored, as the admin plane shows it.
fn documents<S, D>(
    stored: Vec<S>,
    document: impl Fn(S) -> Result<D, Problem>,
) -> Result<Json<Vec<D>>, Problem> {
    stored.into_iter().map(document).collect::<Result<_, Problem>>().map(Json)
}

/// A key in PEM, whose private half is not public.
fn public_key(pem: &str) -> Result<PublicKey, Problem> {
    let key = PublicKey::from_pem(pem)
        .map_err(|error| unprocessable("public_key_invalid", format!("public_key: {error}")))?;
    not_published(&key)?;
    Ok(key)
}

fn not_published(key: &PublicKey) -> Result<(), Problem> {
    denied::check(key)
        .map_err(|error| Problem::new(StatusCode::FORBIDDEN, "trust_anchor_denied", error.to_string()))
}

fn unprocessable(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

/// T11: a name in a path that is none was never stored, and is told apart from one that is not there.
fn name(text: &str) -> Result<Name, Problem> {
    text.parse()
        .map_err(|error: crate::names::NameError| Problem::bad_request("name_invalid", error.to_string()))
}

fn found(what: &str, name: &str, found: bool) -> Result<StatusCode, Problem> {
    if found {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown", format!("there is no {what} {name}")))
}

fn stored_name(name: String) -> Result<Name, Problem> {
    name.try_into().map_err(|_| {
        tracing::error!("a stored name does not follow the grammar");
        Problem::unavailable("store_unavailable", "the service's database cannot be used now")
    })
}

fn provenance(service: &Service, source: String) -> Result<Provenance, Problem> {
    if source.len() > MAX_SOURCE {
        return Err(unprocessable("source_too_long", format!("source may have {MAX_SOURCE} bytes")));
    }
    no_nul("source", &source)?;
    Ok(Provenance { source, added_at: service.environment.clock.now() })
}

/// PostgreSQL has no text with NUL in it, so neither database is given any.
/// Compiles Rego on a thread where that may take its time.
async fn usable<T: Send + 'static>(
    compile: impl FnOnce() -> Result<T, CompileError> + Send + 'static,
) -> Result<(), Problem> {
    let compiled = tokio::task::spawn_blocking(compile).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "compilation did not finish");
        Problem::unavailable("compilation_failed", "the compilation did not finish")
    })?;
    compiled.map(drop).map_err(|error| unprocessable("policy_invalid", error.to_string()))
}

fn no_nul(field: &str, text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(unprocessable("text_invalid", format!("{field} has a NUL character in it")));
    }
    Ok(())
}
