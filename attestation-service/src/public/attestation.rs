//! `POST /attestation`: evidence for a challenge becomes a token, or a refusal.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use evidence::envelope::Evidence;
use jose::Jwk;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::SESSION_COOKIE;
use crate::environment::EntropyError;
use crate::extract::{RequiredJson, cookie};
use crate::names::Name;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::challenges::Redemption;
use crate::token::Algorithm;

/// Length of the random part of a challenge; the rest is the client's user data.
const NONCE_LEN: usize = 32;
/// Without it one request could have every registered policy evaluated many times.
const MAX_POLICIES: usize = 8;

/// secGear's agents encode evidence with and without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
pub struct Body {
    challenge: String,
    evidence: String,
    #[serde(default)]
    policy_id: Option<Vec<Name>>,
    #[serde(default)]
    tee_key: Option<Jwk>,
    /// How the token is to be signed; secGear's clients, which send none, get what the operator has set.
    #[serde(default)]
    token_alg: Option<Algorithm>,
}

pub async fn attest(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    RequiredJson(body): RequiredJson<Body>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
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
    tracing::info!(
        tee = appraisal.tee,
        trust_anchor = appraisal.trust.name(),
        reference = appraisal.reference.name,
        "evidence accepted"
    );
    let jti = service.environment.random::<16>().map_err(|_: EntropyError| {
        Problem::unavailable("entropy_unavailable", "no randomness for a token")
    })?;
    let claims = service.tokens.claims(appraisal, body.challenge, body.tee_key, jti, now);
    let algorithm = body.token_alg.unwrap_or(service.tokens.settings().algorithm);
    let token = service.tokens.sign(&claims, algorithm).await?;
    Ok(([(CONTENT_TYPE, "application/jwt")], token))
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
