//! Reading requests: every way in which a body can be wrong has its own status and a problem document.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Without it an answer could be as long as the body that it complains about.
const MAX_REASON: usize = 256;

/// A JSON body; an empty one is `None`.
pub struct OptionalJson<T>(pub Option<T>);

/// A JSON body.
pub struct RequiredJson<T>(pub T);

/// A JSON body that is read where it lies: what the value borrows of it is not copied.
pub struct JsonText(Bytes);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match text(request, state).await? {
            None => Ok(Self(None)),
            Some(body) => parse(&body).map(|value| Self(Some(value))),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for RequiredJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let OptionalJson(value) = OptionalJson::from_request(request, state).await?;
        value.map(Self).ok_or_else(missing)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        text(request, state).await?.map(Self).ok_or_else(missing)
    }
}

impl JsonText {
    /// Reads the body.
    ///
    /// # Errors
    /// A body that is not JSON, or not such a value.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        parse(&self.0)
    }
}

/// The body, which says that it is JSON; `None` if it is empty.
async fn text<S: Send + Sync>(request: Request, state: &S) -> Result<Option<Bytes>, Problem> {
    let json = is_json(request.headers());
    let body = Bytes::from_request(request, state).await.map_err(body_problem)?;
    if body.is_empty() {
        return Ok(None);
    }
    if !json {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type_unsupported",
            "the body must have Content-Type: application/json",
        ));
    }
    Ok(Some(body))
}

fn missing() -> Problem {
    Problem::bad_request("body_missing", "this endpoint takes a JSON body, found none")
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case("application/json")
}

/// The media type of the body, without its parameters.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// What is wrong with a body that could not be read.
pub fn body_problem(rejection: BytesRejection) -> Problem {
    let status = rejection.into_response().status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(status, "body_too_large", format!("the body may have {} bytes", crate::http::MAX_BODY))
    } else {
        Problem::bad_request("body_unreadable", "the body could not be read to its end")
    }
}

/// Reads a body, or a part of one.
///
/// # Errors
/// What is not JSON, or not such a value.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        // The message quotes the body, which may be long.
        let reason: String = error.to_string().chars().take(MAX_REASON).collect();
        if error.is_data() {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "body_invalid",
                format!("the JSON body is not what this endpoint takes: {reason}"),
            )
        } else {
            Problem::bad_request("body_malformed", format!("the body is not JSON: {reason}"))
        }
    })
}

/// The value of the cookie `name`.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The bearer token of the request (RFC 6750 section 2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
