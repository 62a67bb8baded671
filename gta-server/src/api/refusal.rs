//! What the verifier refuses, as clients are told.

use axum::http::StatusCode;
use service_kit::problem::Problem;
use verifier::{Code, Refusal};

/// A refusal as clients of the Global Trust Authority expect it: their request is at fault.
pub fn refused(refusal: Refusal) -> Problem {
    let status = match refusal.code {
        Code::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut problem = Problem::new(status, refusal.code.as_str(), refusal.detail);
    problem.step = Some(refusal.step.as_str());
    problem
}
