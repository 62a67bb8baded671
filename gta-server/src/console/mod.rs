//! The web console: pages that are part of the program. They speak the REST interface with the key of whoever has signed in,
//! so nothing is reachable through them that this key may not do.

mod files;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use service_kit::problem::Problem;

use files::{FILES, File};

/// Scripts and styles are files of this server only, whatever a page may be made to contain; no page is shown in another's
/// frame, sends a form, or makes markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    form-action 'none'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The console at `/console/`, and the way to it from `/`.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let home = || async { Redirect::temporary("/console/") };
    Router::new()
        .route("/", get(home))
        .route("/console", get(home))
        .route("/console/", get(|headers: HeaderMap| async move { serve("index.html", &headers) }))
        .route(
            "/console/{*path}",
            get(|Path(path): Path<String>, headers: HeaderMap| async move { serve(&path, &headers) }),
        )
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.path == path) else {
        return Problem::new(StatusCode::NOT_FOUND, "not_found", "the console has no such file")
            .into_response();
    };
    let tag = tag(file);
    let answer = [
        (CONTENT_TYPE, HeaderValue::from_static(file.media_type())),
        // Files name each other without versions, so browsers ask each time; mostly the answer is that nothing has changed.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known =
        known.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = match known {
        true => (StatusCode::NOT_MODIFIED, answer).into_response(),
        false => (answer, file.content).into_response(),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn tag(file: &File) -> String {
    format!("\"{}\"", hex::encode(digest(&SHA256, file.content.as_bytes())))
}
