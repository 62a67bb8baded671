//! HTTP of the local interface: listener, limits, routes, problem documents.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::{Answer, Daemon};
use crate::report::chain;
use crate::{Error, Refusal};

/// Longest request body read, in bytes. Requests carry a challenge and a name; without the bound any program in the
/// guest could make the agent run out of memory.
const MAX_REQUEST_LEN: usize = 64 * 1024;
/// Longest request head read, in bytes; same reason.
const MAX_HEAD_LEN: usize = 16 * 1024;
/// Most connections at a time; further ones wait. Without the bound, idle connections use up the file descriptors.
const MAX_CONNECTIONS: usize = 64;
/// Time for a request to arrive; without it, [`MAX_CONNECTIONS`] silent programs keep everyone else out.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Pause after a failure to accept; without it a lasting failure would take the whole CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time to finish what was begun when the daemon is asked to stop.
const SHUTDOWN_TIME: Duration = Duration::from_secs(5);

/// Answers requests on `listener` until `shutdown` completes.
pub async fn serve(daemon: Arc<Daemon>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accept = async {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, _)| (stream, slot))
        };
        let (stream, slot) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A connection lost before it was accepted, or file descriptors short for a moment.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let daemon = daemon.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let daemon = daemon.clone();
                async move { Ok::<_, Infallible>(respond(&daemon, request).await) }
            });
            let result = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME)
                .max_buf_size(MAX_HEAD_LEN)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = result {
                tracing::debug!(%error, "a local connection failed");
            }
            drop(slot);
        });
    }
    drop(listener);
    let finished =
        tokio::time::timeout(SHUTDOWN_TIME, async { while connections.join_next().await.is_some() {} });
    if finished.await.is_err() {
        tracing::warn!("stopped with requests unanswered");
    }
}

/// What is answered with status 200.
pub(super) enum Body {
    Text(String),
    Json(Zeroizing<String>),
}

async fn respond(daemon: &Daemon, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let result = route(daemon, request).await;
    // Parameters and answers stay out of the log: they hold tokens and secrets.
    match &result {
        Ok(_) => tracing::info!(%method, path, "answered"),
        Err(problem) => {
            tracing::warn!(%method, path, code = problem.code, detail = problem.detail, "refused");
        }
    }
    let (status, content_type, body) = match result {
        Ok(Body::Text(text)) => (StatusCode::OK, "text/plain; charset=utf-8", Bytes::from(text)),
        Ok(Body::Json(json)) => (StatusCode::OK, "application/json", Bytes::copy_from_slice(json.as_bytes())),
        Err(problem) => (problem.status, "application/problem+json", Bytes::from(problem.to_json())),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}

async fn route(daemon: &Daemon, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if !matches!(path.as_str(), "/challenge" | "/evidence" | "/token" | "/resource/storage") {
        return Err(Problem::not_found());
    }
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(Problem::method_not_allowed());
    }
    let body = read(request).await?;
    match path.as_str() {
        "/challenge" if body.is_empty() => daemon.challenge(super::ChallengeRequest::default()).await,
        "/challenge" => daemon.challenge(parse(&body)?).await,
        "/evidence" => daemon.evidence(parse(&body)?).await,
        "/token" => daemon.token(parse(&body)?).await,
        _ => daemon.resource(parse(&body)?).await,
    }
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), MAX_REQUEST_LEN).collect();
    match tokio::time::timeout(REQUEST_TIME, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large()),
        Ok(Err(error)) => Err(Problem::request(format!("the body did not arrive: {error}"))),
        Err(_) => {
            Err(Problem::request(format!("the body did not arrive within {} s", REQUEST_TIME.as_secs())))
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::request(format!("the body is not the JSON of this request: {error}")))
}

/// An answer that is not 200 (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    code: String,
    step: Option<String>,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &str, title: &'static str, detail: String) -> Self {
        Self { status, title, code: code.to_owned(), step: None, detail }
    }

    pub(super) fn request(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request_malformed", "The request is malformed", detail)
    }

    pub(super) fn not_supported(what: &str) -> Self {
        let detail = format!("this agent does not offer {what}");
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_supported", "The request is not supported", detail)
    }

    pub(super) fn foreign_challenge() -> Self {
        let detail = "a secret can be sealed only to a key of this agent: give a challenge that /challenge of this \
                      agent returned without user_data less than a minute ago, or none";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "challenge_not_bound",
            "The challenge does not carry a key of this agent",
            detail.to_owned(),
        )
    }

    pub(super) fn not_text() -> Self {
        let detail = "the secret is not UTF-8 text, which this interface needs; use attestation-agent fetch";
        Self::new(StatusCode::BAD_GATEWAY, "secret_not_text", "The secret is not text", detail.to_owned())
    }

    fn not_found() -> Self {
        let detail = "there are /challenge, /evidence, /token and /resource/storage";
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such path", detail.to_owned())
    }

    fn method_not_allowed() -> Self {
        let detail = "GET and POST are allowed";
        let title = "The method is not allowed";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, detail.to_owned())
    }

    fn too_large() -> Self {
        let detail = format!("a request body has at most {MAX_REQUEST_LEN} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "The request is too large", detail)
    }

    fn to_json(&self) -> String {
        let mut document = json!({
            "type": format!("urn:redoubt:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        if let (Some(step), Some(members)) = (&self.step, document.as_object_mut()) {
            members.insert("step".to_owned(), json!(step));
        }
        document.to_string()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(Refusal { status, code, step, detail }) => Self {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN),
                title: "The attestation service refused",
                code,
                step,
                detail,
            },
            Error::Unavailable(Refusal { code, step, detail, .. }) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "The attestation service cannot answer now",
                code,
                step,
                detail,
            },
            Error::Collect(_) => {
                let title = "This guest gives no evidence";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "tee_unavailable", title, chain(&error))
            }
            Error::Timeout { .. } => {
                let title = "The attestation service did not answer in time";
                Self::new(StatusCode::GATEWAY_TIMEOUT, "service_timeout", title, chain(&error))
            }
            Error::ForeignChallenge => {
                let title = "The attestation service is not to be trusted";
                Self::new(StatusCode::BAD_GATEWAY, "challenge_foreign", title, chain(&error))
            }
            _ => {
                let title = "The attestation service cannot be used";
                Self::new(StatusCode::BAD_GATEWAY, "service_unavailable", title, chain(&error))
            }
        }
    }
}
