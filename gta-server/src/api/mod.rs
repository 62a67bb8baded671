//! The REST interface, under `/global-trust-authority/service/v1`.

mod attest;
mod audit;
mod certify;
mod certs;
mod collection;
mod enrol;
mod events;
mod nodes;
pub mod operator;
mod policies;
mod ref_values;
mod result;
mod status;
mod webhooks;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::http::{Observer, dress};
use service_kit::problem::Problem;
use service_kit::serve::limit::{Limiter, limited};

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

/// Makes the routes and their list of one table, so that no test passes one over.
macro_rules! routes {
    ($($method:ident $path:literal => $handler:path,)*) => {
        /// Every route under [`BASE`]: the method in small letters, and the path.
        pub const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),*];

        fn table() -> Router<Shared> {
            Router::new()$(.route($path, $method($handler)))*
        }
    };
}

routes! {
    post "/challenge" => challenge,
    post "/enroll" => enrol::begin,
    post "/enroll/activate" => enrol::activate,
    post "/enroll/certified" => certify::enrol,
    post "/attest" => attest::attest,
    post "/token/verify" => verify,
    get "/jwks" => key_set,
    get "/whoami" => who,
    post "/register" => register,
    get "/register" => register,
    get "/node" => nodes::list,
    post "/node" => nodes::pin,
    delete "/node" => nodes::remove,
    get "/audit" => audit::list,
    get "/status" => status::list,
    delete "/status" => status::forget,
    get "/event" => events::list,
    get "/event/stream" => events::stream,
    get "/policy" => policies::list,
    post "/policy" => policies::add,
    put "/policy" => policies::replace,
    delete "/policy" => policies::remove,
    get "/policy/built_in" => policies::built_in,
    get "/cert" => certs::list,
    post "/cert" => certs::add,
    put "/cert" => certs::replace,
    delete "/cert" => certs::remove,
    get "/webhook" => webhooks::list,
    post "/webhook" => webhooks::add,
    put "/webhook" => webhooks::replace,
    delete "/webhook" => webhooks::remove,
    get "/ref_value" => ref_values::list,
    post "/ref_value" => ref_values::add,
    put "/ref_value" => ref_values::replace,
    delete "/ref_value" => ref_values::remove,
}

/// Every route, with bounds for each peer if there are to be any.
pub fn router<F: Observer>(service: Shared, limiter: Option<Limiter>, observer: F) -> Router {
    let mut routes = Router::new().nest(BASE, table()).route("/health", get(operator::health));
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

#[derive(Deserialize)]
struct ChallengeRequest {
    attester_type: Vec<String>,
    node_id: Option<String>,
}

/// `POST /challenge`: a nonce.
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

#[derive(Deserialize)]
struct TokenRequest {
    token: String,
}

/// `POST /token/verify`: whether a token is one of ours.
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

/// `GET /jwks`: the keys that tokens are verified with; for everybody.
async fn key_set(State(service): State<Shared>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "keys": service.store.keys().public().await? })))
}

/// `GET /whoami`: whose key it is that is used, and what its holder may do; for everybody who has one.
async fn who(caller: Caller) -> Json<Value> {
    Json(json!({ "User-Id": caller.tenant, "role": caller.role, "actor": caller.name }))
}

/// `POST /register`: a new key in place of the caller's.
async fn register(State(service): State<Shared>, caller: Caller) -> Result<Json<Value>, Problem> {
    let key = service.renew_key(&caller).await?;
    Ok(Json(json!({ "User-Id": caller.tenant, "API-Key": key })))
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
