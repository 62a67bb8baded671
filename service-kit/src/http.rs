//! What services put around their routes: bounds, security headers, problem documents for what no route takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use crate::problem::Problem;

/// Longest body in bytes. Without it a client could make the service hold as much as it likes to send. Evidence of a CCA
/// guest has about 4 KiB; secGear's agents write every byte of a log as a number in an array and that as base64, so that a
/// log of 3 MB fills this.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// All bodies of a listener together, in KiB. Without it many clients could have the memory that one cannot.
const MAX_BODIES: usize = 256 * 1024;

/// Without it a client that sends one byte a minute would hold a connection and its buffers for ever.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Without it anybody could write long lines into the log.
const MAX_LOGGED_PATH: usize = 128;

/// Is told the status of each answer, and how long it took.
pub trait Observer: Fn(u16, Duration) + Clone + Send + Sync + 'static {}

impl<F: Fn(u16, Duration) + Clone + Send + Sync + 'static> Observer for F {}

/// Puts the common layers around `routes`: bounds, security headers, one log line per request.
pub fn dress<S: Clone + Send + Sync + 'static, F: Observer>(routes: Router<S>, observer: F) -> Router<S> {
    routes
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path takes another method",
            )
        })
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(MAX_BODIES)), limit_memory))
        .layer(middleware::from_fn(limit_time))
        .layer(middleware::from_fn(add_headers))
        .layer(middleware::from_fn_with_state(observer, log::<F>))
}

/// Waits until there is room for the body; the time limit goes on.
async fn limit_memory(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let most = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    // More than that is refused unread; a body of unknown length may be as long.
    let length = request.body().size_hint().upper().unwrap_or(most).min(most);
    let needed = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
    // The semaphore is never closed.
    let _room = room.acquire_many(needed).await;
    next.run(request).await
}

async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the request was not complete and answered within {} s", REQUEST_TIME.as_secs()),
        )
        .into_response(),
    }
}

/// What a route says itself stands: pages for people need another policy than answers for programs.
async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (REFERRER_POLICY, "no-referrer"),
        (STRICT_TRANSPORT_SECURITY, "max-age=63072000"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Method, path, status and time; never a query, a header or a body, which carry challenges, cookies and tokens.
async fn log<F: Observer>(State(observer): State<F>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(MAX_LOGGED_PATH).collect();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), started.elapsed());
    observer(status, took);
    tracing::info!(%method, path, status, elapsed_us = took.as_micros(), "request");
    response
}
