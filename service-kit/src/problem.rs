//! Errors as the client sees them: RFC 7807 problem documents with a stable machine code.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use verifier::{Code, Refusal};

/// A problem on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    /// The stable machine code.
    pub code: &'static str,
    /// What was found and what was expected.
    pub detail: String,
    /// The step of the appraisal that refused.
    pub step: Option<&'static str>,
}

/// The document that the client reads: `application/problem+json`, with the members `code` and, for refused evidence,
/// `step`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemDocument {
    /// `urn:redoubt:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short sentence that is the same for every problem of this status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was found and what was expected.
    pub detail: String,
    /// The stable machine code.
    pub code: String,
    /// The step of the appraisal that refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

impl Problem {
    /// A problem with `status` and `code`.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), step: None }
    }

    /// 400: the request is not what this endpoint takes.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401, to which `WWW-Authenticate: Bearer` is added (RFC 6750 section 3).
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 503: the service cannot answer now; the request may be right.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    /// 429: a bound is reached that time will lift.
    pub fn too_many(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        };
        let step = Some(refusal.step.as_str());
        Self { status, code: refusal.code.as_str(), detail: refusal.detail, step }
    }
}

impl From<Problem> for ProblemDocument {
    fn from(problem: Problem) -> Self {
        Self {
            kind: format!("urn:redoubt:problem:{}", problem.code),
            title: title(problem.status).to_owned(),
            status: problem.status.as_u16(),
            detail: problem.detail,
            code: problem.code.to_owned(),
            step: problem.step.map(str::to_owned),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(ProblemDocument::from(self))).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let advice = match status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "5")),
            StatusCode::TOO_MANY_REQUESTS => Some((RETRY_AFTER, "30")),
            _ => None,
        };
        headers.extend(advice.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "The request is not authenticated",
        StatusCode::FORBIDDEN => "The request was refused",
        StatusCode::NOT_FOUND => "There is no such thing here",
        StatusCode::CONFLICT => "The request does not fit the present state",
        StatusCode::SERVICE_UNAVAILABLE => "The service cannot answer now",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        _ => "The request cannot be used",
    }
}
