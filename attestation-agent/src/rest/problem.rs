//! Answers that are not 200: problem documents (RFC 9457, before RFC 7807) with a machine code.

use hyper::StatusCode;
use serde_json::json;

use crate::report::chain;
use crate::{Error, Refusal};

/// An answer that is not 200.
#[derive(Debug)]
pub struct Problem {
    pub(super) status: StatusCode,
    title: &'static str,
    pub(super) code: String,
    step: Option<String>,
    pub(super) detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, code: code.to_owned(), step: None, detail: detail.into() }
    }

    pub(crate) fn request(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request_malformed", "The request is malformed", detail)
    }

    /// A wrong parameter of `/active_token`, by secGear's code.
    pub(super) fn active(code: &str, detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "The request is malformed", detail)
    }

    pub(super) fn not_found(paths: &[&str]) -> Self {
        let detail = format!("there are {}", paths.join(", "));
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such path", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        let title = "The method is not allowed";
        let detail = "GET and POST are allowed";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, detail)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("the body of this request has at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "The request is too large", detail)
    }

    pub(super) fn rate_limited() -> Self {
        let title = "There are too many requests";
        let detail = "this program asks faster than the agent answers one program; wait a second";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", title, detail)
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut document = json!({
            "type": format!("urn:redoubt:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            // secGear's name for the code.
            "error": self.code,
        });
        if let (Some(step), Some(members)) = (&self.step, document.as_object_mut()) {
            members.insert("step".to_owned(), json!(step));
        }
        document.to_string()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code, title) = match error {
            Error::Refused(Refusal { status, code, step, detail }) => {
                return Self {
                    status: StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN),
                    title: "The attestation service refused",
                    code,
                    step,
                    detail,
                };
            }
            Error::Unavailable(Refusal { code, step, detail, .. }) => {
                return Self {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    title: "The attestation service cannot answer now",
                    code,
                    step,
                    detail,
                };
            }
            Error::Request(_) => (StatusCode::BAD_REQUEST, "request_malformed", "The request is malformed"),
            Error::Token(_) => (StatusCode::UNPROCESSABLE_ENTITY, "token_invalid", "The token does not hold"),
            Error::ChallengeNotBound => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "challenge_not_bound",
                "The challenge does not carry a key of this agent",
            ),
            Error::AppNotFound { .. } => {
                (StatusCode::NOT_FOUND, "app_not_found", "There is no such application")
            }
            Error::PlatformMismatch { .. } => {
                (StatusCode::BAD_REQUEST, "platform_mismatch", "The application is for another platform")
            }
            Error::NotSupported(_) => {
                (StatusCode::NOT_IMPLEMENTED, "not_supported", "The request is not supported")
            }
            Error::NoTokenYet => {
                (StatusCode::SERVICE_UNAVAILABLE, "no_token_available", "There is no valid token yet")
            }
            Error::Collect(_) | Error::Tpm(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "tee_unavailable", "This guest gives no evidence")
            }
            Error::SecretNotText => (StatusCode::BAD_GATEWAY, "secret_not_text", "The secret is not text"),
            Error::Timeout { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                "service_timeout",
                "The attestation service did not answer in time",
            ),
            Error::ForeignChallenge => {
                (StatusCode::BAD_GATEWAY, "challenge_foreign", "The attestation service is not to be trusted")
            }
            _ => (StatusCode::BAD_GATEWAY, "service_unavailable", "The attestation service cannot be used"),
        };
        Self::new(status, code, title, chain(&error))
    }
}
