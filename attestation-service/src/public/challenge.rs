//! `GET|POST /challenge`: a fresh nonce, bound to a session.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderName;
use axum::http::header::SET_COOKIE;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::SESSION_COOKIE;
use crate::environment::EntropyError;
use crate::extract::OptionalJson;
use crate::problem::{Problem, ProblemDocument};
use crate::service::Service;

/// What remains of the 64 bytes that a TEE attests after 32 bytes of nonce.
const MAX_USER_DATA: usize = 32;

/// secGear's request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Up to 32 bytes that become the second half of the challenge.
    #[serde(default)]
    user_data: Option<Vec<u8>>,
}

/// The same in the query.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// Base64url without padding, for clients that cannot send a body with GET.
    user_data: Option<String>,
}

/// Get a challenge: 32 random bytes and the user data, bound to a session.
#[utoipa::path(
    get, path = "/challenge", params(Parameters), request_body(content = Option<Body>),
    responses(
        (status = 200, body = String, description = "base64url without padding, a JSON text",
         headers(("Set-Cookie", description = "oeas-session-id"))),
        (status = 400, body = ProblemDocument), (status = 422, body = ProblemDocument),
        (status = 429, body = ProblemDocument),
    )
)]
pub async fn get(
    service: State<Arc<Service>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    body: OptionalJson<Body>,
) -> Result<([(HeaderName, String); 1], Json<String>), Problem> {
    issue(service, parameters, body).await
}

/// Get a challenge, for clients that cannot send a body with GET.
#[utoipa::path(
    post, path = "/challenge", params(Parameters), request_body(content = Option<Body>),
    responses(
        (status = 200, body = String, description = "base64url without padding, a JSON text",
         headers(("Set-Cookie", description = "oeas-session-id"))),
        (status = 400, body = ProblemDocument), (status = 422, body = ProblemDocument),
        (status = 429, body = ProblemDocument),
    )
)]
pub async fn post(
    service: State<Arc<Service>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    body: OptionalJson<Body>,
) -> Result<([(HeaderName, String); 1], Json<String>), Problem> {
    issue(service, parameters, body).await
}

async fn issue(
    State(service): State<Arc<Service>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    OptionalJson(body): OptionalJson<Body>,
) -> Result<([(HeaderName, String); 1], Json<String>), Problem> {
    let Query(parameters) =
        parameters.map_err(|_| Problem::bad_request("query_malformed", "expected ?user_data=BASE64URL"))?;
    let user_data = match (body.and_then(|body| body.user_data), parameters.user_data) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("user_data_twice", "user_data is in the query and in the body"));
        }
        (Some(bytes), None) => bytes,
        (None, Some(text)) => URL_SAFE_NO_PAD.decode(text).map_err(|_| {
            Problem::bad_request("user_data_malformed", "user_data in the query is base64url without padding")
        })?,
        (None, None) => Vec::new(),
    };
    if user_data.len() > MAX_USER_DATA {
        return Err(Problem::bad_request(
            "user_data_too_long",
            format!("user_data has {} bytes, at most {MAX_USER_DATA} fit into a challenge", user_data.len()),
        ));
    }

    let entropy =
        |_: EntropyError| Problem::unavailable("entropy_unavailable", "no randomness for a challenge");
    let mut challenge = service.environment.random::<32>().map_err(entropy)?.to_vec();
    challenge.extend_from_slice(&user_data);
    let session = hex::encode(service.environment.random::<16>().map_err(entropy)?);

    let lifetime = service.settings.challenge_lifetime;
    let now = service.environment.clock.now();
    let limit = service.settings.max_challenges;
    if !service.store.issue_challenge(&challenge, &session, now, lifetime, limit).await? {
        tracing::warn!(limit, "outstanding challenges exhausted");
        return Err(Problem::too_many(
            "challenges_exhausted",
            "too many challenges are outstanding; answer one, or wait until some expire",
        ));
    }
    Ok(([(SET_COOKIE, session_cookie(&session, lifetime))], Json(URL_SAFE_NO_PAD.encode(challenge))))
}

/// The cookie of a session that lasts `lifetime` seconds.
pub fn session_cookie(session: &str, lifetime: i64) -> String {
    format!("{SESSION_COOKIE}={session}; Path=/; Max-Age={lifetime}; HttpOnly; Secure; SameSite=Strict")
}
