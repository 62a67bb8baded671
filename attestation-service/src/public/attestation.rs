//! `POST /attestation`: evidence for a challenge becomes a token, or a refusal.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use evidence::envelope::Evidence;
use jose::Jwk;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use super::SESSION_COOKIE;
use crate::extract::{RequiredJson, cookie};
use crate::names::Name;
use crate::problem::{Problem, ProblemDocument};
use crate::service::Service;
use crate::store::challenges::Redemption;
use crate::token::{Algorithm, Form, Issue};

/// Length of the random part of a challenge; the rest is the client's user data.
const NONCE_LEN: usize = 32;
/// Without it one request could have every registered policy evaluated many times.
const MAX_POLICIES: usize = 8;

/// secGear's agents encode evidence with and without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// secGear's request, with what it lacks.
#[derive(Deserialize, ToSchema)]
pub struct Body {
    /// The text that GET /challenge returned.
    challenge: String,
    /// The evidence JSON in base64url.
    evidence: String,
    /// Policies that must allow beside the default one.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    policy_id: Option<Vec<Name>>,
    /// The key that resources are sealed to, a JWK; the second half of the challenge is its RFC 7638 thumbprint.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    tee_key: Option<Jwk>,
    /// How the token is to be signed; secGear's clients, which send none, get what the operator has set.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    token_alg: Option<Algorithm>,
}

/// The media type of an EAR as a JWT (draft-ietf-rats-ear).
const EAR: &str = "application/eat+jwt";
const JWT: &str = "application/jwt";
/// secGear's header; it asks for the cookie to be sent back.
const AS_CHALLENGE: &str = "as-challenge";

/// Exchange evidence for a token, once for each challenge.
#[utoipa::path(
    post, path = "/attestation", request_body = Body,
    params(
        ("Accept" = Option<String>, Header, description = "application/eat+jwt for an EAR; secGear's claims otherwise"),
        ("Cookie" = String, Header, description = "oeas-session-id, as it came with the challenge"),
    ),
    responses(
        (status = 200, body = String, content_type = "application/jwt"),
        (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
        (status = 403, body = ProblemDocument, description = "The evidence was refused: step, code and reason"),
        (status = 409, body = ProblemDocument, description = "The challenge cannot be used (any more)"),
        (status = 413, body = ProblemDocument), (status = 422, body = ProblemDocument),
    )
)]
pub async fn attest(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    RequiredJson(body): RequiredJson<Body>,
) -> Result<(HeaderMap, String), Problem> {
    let challenge = URL_SAFE_NO_PAD.decode(&body.challenge).map_err(|_| {
        Problem::bad_request(
            "challenge_malformed",
            "challenge is the base64url text that GET /challenge returned",
        )
    })?;
    let evidence = BASE64URL.decode(&body.evidence).map_err(|_| {
        Problem::bad_request("evidence_malformed", "evidence is base64url of the evidence JSON")
    })?;
    let evidence = Evidence::from_json(&evidence)
        .map_err(|error| Problem::bad_request("evidence_malformed", format!("evidence: {error}")))?;
    let requested = body.policy_id.unwrap_or_default();
    if requested.len() > MAX_POLICIES {
        return Err(Problem::bad_request("too_many_policies", format!("policy_id: at most {MAX_POLICIES}")));
    }
    let session = cookie(&headers, SESSION_COOKIE).ok_or_else(|| {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "session_missing",
            format!("send the cookie {SESSION_COOKIE} that came with the challenge"),
        )
    })?;
    let policies = service.policies(&evidence, &requested).await?;

    // From here on the challenge is spent, whatever the outcome: one challenge, one attempt.
    let now = service.environment.clock.now();
    redeem(&service, &challenge, session, now).await?;
    if let Some(key) = &body.tee_key {
        check_key(key, &challenge)?;
    }
    let mut attested = [0; 64];
    attested
        .get_mut(..challenge.len())
        .ok_or_else(|| Problem::bad_request("challenge_malformed", "a challenge has at most 64 bytes"))?
        .copy_from_slice(&challenge);

    let appraisal = service.appraise(evidence, attested, policies).await.inspect_err(|problem| {
        tracing::info!(code = problem.code, step = problem.step, detail = problem.detail, "evidence refused");
    })?;
    let form = form(&headers);
    let claims = service.issue(Issue {
        appraisal,
        requested: requested.into_iter().map(String::from).collect(),
        nonce: body.challenge,
        key: body.tee_key,
        form,
    })?;
    let algorithm = body.token_alg.unwrap_or(service.tokens.settings().algorithm);
    let token = service.tokens.sign(&claims, algorithm).await?;
    let lifetime = service.settings.challenge_lifetime;
    Ok((answer_headers(&headers, session, lifetime, form), token))
}

/// An EAR for those who say that they take one.
fn form(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut media = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    if media.any(|media| media.trim().eq_ignore_ascii_case(EAR)) { Form::Ear } else { Form::SecGear }
}

fn answer_headers(request: &HeaderMap, session: &str, lifetime: i64, form: Form) -> HeaderMap {
    let media = match form {
        Form::SecGear => JWT,
        Form::Ear => EAR,
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if request.contains_key(AS_CHALLENGE)
        && let Ok(cookie) = super::challenge::session_cookie(session, lifetime).parse()
    {
        headers.insert(SET_COOKIE, cookie);
    }
    headers
}

async fn redeem(service: &Service, challenge: &[u8], session: &str, now: i64) -> Result<(), Problem> {
    let (code, detail) = match service.store.redeem_challenge(challenge, session, now).await? {
        Redemption::Accepted => return Ok(()),
        Redemption::Used => ("challenge_used", "this challenge was used before"),
        Redemption::Expired => ("challenge_expired", "this challenge has expired"),
        Redemption::Unknown => ("challenge_unknown", "this challenge was not issued to this session"),
    };
    Err(Problem::new(StatusCode::CONFLICT, code, format!("{detail}; get a new one")))
}

/// A key is attested only if the challenge, which the TEE signed, carries its thumbprint.
fn check_key(key: &Jwk, challenge: &[u8]) -> Result<(), Problem> {
    let user_data = challenge.get(NONCE_LEN..).unwrap_or_default();
    if bool::from(key.thumbprint().as_slice().ct_eq(user_data)) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "tee_key_unbound",
        "the second half of the challenge is not the RFC 7638 SHA-256 thumbprint of tee_key; \
         send the thumbprint as user_data when getting the challenge",
    ))
}
