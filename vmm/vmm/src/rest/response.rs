//! From answers to HTTP.

use std::error::Error;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::calls::Refusal;
use super::metrics;
use crate::control::{Answer, ControlError};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NAME: HeaderValue = HeaderValue::from_static(concat!("redoubt-vmm/", env!("CARGO_PKG_VERSION")));

/// What is sent back.
pub(super) type HttpResponse = Response<Full<Bytes>>;

pub(super) fn answer(answer: &Answer) -> HttpResponse {
    match answer {
        Answer::Done => response(204, None, Bytes::new()),
        Answer::Ping(ping) => json(200, ping),
        Answer::Info(info) => json(200, info),
        Answer::Counters(counters) => json(200, counters),
        Answer::Device(device) => json(200, device),
        Answer::Metrics(numbers) => {
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            response(200, Some(kind), metrics::text(numbers).into())
        }
    }
}

pub(super) fn refused(error: &ControlError) -> HttpResponse {
    json(error.status(), &reasons(error))
}

pub(super) fn refusal(refusal: &Refusal) -> HttpResponse {
    json(refusal.status, &refusal.reasons)
}

/// Every level of an error, outermost first; one that only repeats what is below it is left out.
fn reasons(error: &dyn Error) -> Vec<String> {
    let mut reasons = vec![error.to_string()];
    let mut below = error.source();
    while let Some(error) = below {
        reasons.push(error.to_string());
        below = error.source();
    }
    reasons.dedup();
    reasons
}

fn json(status: u16, value: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(body) => response(status, Some(JSON), body.into()),
        // A path of the configuration is not UTF-8.
        Err(error) => {
            let reasons = serde_json::json!(["the answer has no JSON form", error.to_string()]);
            response(500, Some(JSON), reasons.to_string().into())
        }
    }
}

fn response(status: u16, kind: Option<HeaderValue>, body: Bytes) -> HttpResponse {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(SERVER, NAME);
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
