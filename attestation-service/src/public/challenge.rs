//! `GET|POST /challenge`: a fresh nonce, bound to a session.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderName;
use axum::http::header::SET_COOKIE;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::SESSION_COOKIE;
use crate::environment::EntropyError;
use crate::extract::OptionalJson;
use crate::problem::Problem;
use crate::service::Service;

/// What remains of the 64 bytes that a TEE attests after 32 bytes of nonce.
const MAX_USER_DATA: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    #[serde(default)]
    user_data: Option<Vec<u8>>,
}

#[derive(Deserialize)]
pub struct Parameters {
    /// Base64url without padding, for clients that cannot send a body with GET.
    user_data: Option<String>,
}

pub async fn issue(
    State(service): State<Arc<Service>>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
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
    let cookie =
        format!("{SESSION_COOKIE}={session}; Path=/; Max-Age={lifetime}; HttpOnly; Secure; SameSite=Strict");
    Ok(([(SET_COOKIE, cookie)], Json(URL_SAFE_NO_PAD.encode(challenge))))
}
