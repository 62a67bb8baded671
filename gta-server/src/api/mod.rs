//! The REST interface, under `/global-trust-authority/service/v1`.

#![allow(unused_qualifications, reason = "utoipa's macros write paths out")]

mod attest;
mod audit;
mod certify;
mod certs;
mod collection;
mod enrol;
mod events;
mod leisure;
mod nodes;
mod openapi;
pub mod operator;
mod policies;
mod ref_values;
mod refusal;
mod result;
mod status;
mod webhooks;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::http::{Observer, dress};
use service_kit::problem::Problem;
use service_kit::serve::limit::{Limiter, limited};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::console;
use crate::json::with;
use crate::model::{AttesterType, Role};
use crate::service::Shared;

/// The base path of every call.
pub const BASE: &str = "/global-trust-authority/service/v1";
/// What the answers call the service's version.
pub const SERVICE_VERSION: &str = "1.0";
/// Longest name of anything, in bytes.
const MAX_NAME: usize = 255;
/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 512;
/// Longest problem document.
const MAX_PROBLEM: usize = 64 * 1024;

/// Every route with its description: what is not described is not served.
fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(challenge))
        .routes(routes!(enrol::begin))
        .routes(routes!(enrol::activate))
        .routes(routes!(certify::enrol))
        .routes(routes!(attest::attest))
        .routes(routes!(verify))
        .routes(routes!(key_set))
        .routes(routes!(who))
        .routes(routes!(register, register_by_get))
        .routes(routes!(nodes::list, nodes::pin, nodes::remove))
        .routes(routes!(audit::list))
        .routes(routes!(status::list, status::forget))
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(policies::list, policies::add, policies::replace, policies::remove))
        .routes(routes!(policies::built_in))
        .routes(routes!(certs::list, certs::add, certs::replace, certs::remove))
        .routes(routes!(webhooks::list, webhooks::add, webhooks::replace, webhooks::remove))
        .routes(routes!(ref_values::list, ref_values::add, ref_values::replace, ref_values::remove))
        .routes(routes!(openapi::document))
}

/// The description of every route under [`BASE`].
#[must_use]
pub fn description_of_all() -> utoipa::openapi::OpenApi {
    openapi::complete()
}

/// Every route, with bounds for each peer if there are to be any.
pub fn router<F: Observer>(service: Shared, limiter: Option<Limiter>, observer: F) -> Router {
    let (routes, _) = described().split_for_parts();
    let mut routes = Router::new().nest(BASE, routes).route("/health", get(operator::health));
    if service.settings.console {
        routes = routes.merge(console::router());
    }
    let routes = dress(routes, observer.clone()).with_state(service);
    limited(routes, limiter, observer).layer(middleware::from_fn(old_text))
}

/// Clients of the Global Trust Authority read `message` and `service_version`: problem documents have them, too.
async fn old_text(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let is_problem =
        response.headers().get(CONTENT_TYPE) == Some(&HeaderValue::from_static("application/problem+json"));
    if !is_problem {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_PROBLEM).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = problem.get("detail").cloned().unwrap_or_default();
    let problem = with(with(problem, "message", message), "service_version", SERVICE_VERSION);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(problem.to_string()))
}

/// Who is to be challenged.
#[derive(Deserialize, ToSchema)]
struct ChallengeRequest {
    /// Types of evidence: `tpm_boot`, `tpm_ima`, `virt_cca`.
    attester_type: Vec<String>,
    /// The only node whose evidence it is to be good for.
    node_id: Option<String>,
}

/// Get a nonce, for evidence of the tenant or of one node.
#[utoipa::path(
    post, path = "/challenge", request_body = ChallengeRequest,
    responses(
        (status = 200, body = Object, description = "`nonce`, in base64: what is in it is the service's own"),
        (status = 429, description = "Too many nonces wait for an answer"),
    )
)]
async fn challenge(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<ChallengeRequest>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Agent, Role::RelyingParty])?;
    let known = request.attester_type.iter().all(|name| AttesterType::parse(name).is_some());
    if request.attester_type.is_empty() || !known {
        return Err(Problem::bad_request(
            "attester_type_unknown",
            "Required plugins not found: attester_type is a list of tpm_boot, tpm_ima and virt_cca",
        ));
    }
    if let Some(node) = &request.node_id {
        name("node_id", node)?;
    }
    let nonce = service.issue_nonce(&caller.tenant, request.node_id.as_deref()).await?;
    Ok(Json(json!({ "service_version": SERVICE_VERSION, "nonce": nonce })))
}

/// What is to be verified.
#[derive(Deserialize, ToSchema)]
struct TokenRequest {
    /// A token of this service.
    token: String,
}

/// Whether a token is one of ours, and what it says; whosever it is.
#[utoipa::path(
    post, path = "/token/verify", request_body = TokenRequest,
    responses((
        status = 200, body = Object,
        description = "`verification_pass`, and with it `token_body` and `token_header`, or `message`"
    ))
)]
async fn verify(
    State(service): State<Shared>,
    _: Caller,
    RequiredJson(request): RequiredJson<TokenRequest>,
) -> Result<Json<Value>, Problem> {
    if request.token.is_empty() {
        return Err(Problem::bad_request("token_empty", "Token is empty"));
    }
    Ok(Json(match service.verify_token(&request.token).await? {
        Ok(verified) => {
            json!({ "verification_pass": true, "token_body": verified.body, "token_header": verified.header })
        }
        Err(refusal) => json!({ "verification_pass": false, "message": refusal.to_string() }),
    }))
}

/// The keys that tokens are verified with; for everybody.
#[utoipa::path(
    get, path = "/jwks", security(()),
    responses((status = 200, body = Object, description = "A JWK set (RFC 7517 section 5)"))
)]
async fn key_set(State(service): State<Shared>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "keys": service.store.keys().public().await? })))
}

/// Whose key it is that is used, and what its holder may do; for everybody who has one.
#[utoipa::path(
    get, path = "/whoami", responses((status = 200, body = Object, description = "`User-Id`, `role`, `actor`"))
)]
async fn who(caller: Caller) -> Json<Value> {
    Json(json!({ "User-Id": caller.tenant, "role": caller.role, "actor": caller.name }))
}

/// Get a new key in place of the caller's, which is good no more.
#[utoipa::path(
    post, path = "/register", responses((status = 200, body = Object, description = "`User-Id` and `API-Key`"))
)]
async fn register(State(service): State<Shared>, caller: Caller) -> Result<Json<Value>, Problem> {
    let key = service.renew_key(&caller).await?;
    Ok(Json(json!({ "User-Id": caller.tenant, "API-Key": key })))
}

/// The same: clients of the Global Trust Authority ask in this way.
#[utoipa::path(
    get, path = "/register", responses((status = 200, body = Object, description = "`User-Id` and `API-Key`"))
)]
async fn register_by_get(service: State<Shared>, caller: Caller) -> Result<Json<Value>, Problem> {
    register(service, caller).await
}

/// A name that can be shown anywhere.
fn name(field: &'static str, text: &str) -> Result<(), Problem> {
    const FORBIDDEN: &str = "<>\"'&|\\/*?`";
    let good = (1..=MAX_NAME).contains(&text.len())
        && !text.chars().any(|c| c.is_control() || FORBIDDEN.contains(c));
    if good {
        return Ok(());
    }
    Err(Problem::bad_request(
        "name_invalid",
        format!("{field} has 1 to {MAX_NAME} bytes and none of {FORBIDDEN} or control characters"),
    ))
}

fn description(text: Option<String>) -> Result<String, Problem> {
    let text = text.unwrap_or_default();
    if text.len() > MAX_DESCRIPTION || text.contains('\0') {
        return Err(Problem::bad_request(
            "description_invalid",
            format!("description has at most {MAX_DESCRIPTION} bytes, and no NUL"),
        ));
    }
    Ok(text)
}

/// A bound of a tenant.
fn room(what: &str, present: usize, most: usize) -> Result<(), Problem> {
    if present < most {
        return Ok(());
    }
    Err(Problem::new(
        axum::http::StatusCode::CONFLICT,
        "quota_exceeded",
        format!("this tenant has {present} {what}, which is as many as it may have: delete some"),
    ))
}
