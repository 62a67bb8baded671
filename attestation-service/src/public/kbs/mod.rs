//! Trustee's key-broker protocol (RCAR) under `/kbs/v0`, so that stock CoCo guest components attest here and fetch
//! resources.
//!
//! The evidence signs the nonce *and* the guest's key in one digest, so a key cannot be exchanged without new evidence.
//! Errors are problem documents; of their members, guests read `type` and `detail`.

mod messages;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jose::{Jwe, Jwk};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use verifier::Appraisal;

use self::messages::{Attestation, Challenge, InitData, Request, VERSION};
use crate::environment::EntropyError;
use crate::extract::{RequiredJson, bearer, cookie};
use crate::names::ResourceName;
use crate::problem::{Problem, ProblemDocument};
use crate::public::elsewhere;
use crate::service::Service;
use crate::store::sessions::Claim;
use crate::token::{Claims, Form, Issue};

/// Trustee's name for the cookie that holds a session.
pub const SESSION_COOKIE: &str = "kbs-session-id";

/// The kinds of environment that can attest; CoCo knows no virtCCA, so that name is ours.
const TEES: [&str; 2] = ["cca", "virtcca"];

/// The answer to accepted evidence.
#[derive(Serialize, ToSchema)]
pub struct Token {
    /// An EAR, as a JWT.
    token: String,
}

type Session = [(HeaderName, String); 1];

/// Begin a session: a nonce, and the cookie of the session.
#[utoipa::path(
    post, path = "/kbs/v0/auth", request_body = Request,
    responses(
        (status = 200, body = Challenge, headers(("Set-Cookie", description = "kbs-session-id"))),
        (status = 401, body = ProblemDocument, description = "Another version of the protocol"),
        (status = 422, body = ProblemDocument), (status = 429, body = ProblemDocument),
    )
)]
pub async fn auth(
    State(service): State<Arc<Service>>,
    RequiredJson(request): RequiredJson<Request>,
) -> Result<(Session, Json<Challenge>), Problem> {
    if request.version != VERSION {
        let found: String = request.version.chars().take(16).collect();
        return Err(Problem::unauthorized(
            "protocol_version_unsupported",
            format!("version is {found:?}, this service speaks {VERSION}"),
        ));
    }
    let tee = TEES.into_iter().find(|tee| *tee == request.tee).ok_or_else(|| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "tee_unsupported",
            format!("tee: expected one of {}", TEES.join(", ")),
        )
    })?;
    let entropy = |_: EntropyError| Problem::unavailable("entropy_unavailable", "no randomness for a nonce");
    let nonce = service.environment.random::<32>().map_err(entropy)?;
    let session = hex::encode(service.environment.random::<16>().map_err(entropy)?);
    let now = service.environment.clock.now();
    let (lifetime, limit) = (service.settings.challenge_lifetime, service.settings.max_challenges);
    if !service.store.open_session(&session, tee, &nonce, now, lifetime, limit).await? {
        return Err(Problem::too_many(
            "sessions_exhausted",
            "too many sessions are open; wait until some expire",
        ));
    }
    let challenge = Challenge { nonce: STANDARD.encode(nonce), extra_params: String::new() };
    Ok(([(SET_COOKIE, set_cookie(&session, lifetime))], Json(challenge)))
}

fn set_cookie(session: &str, lifetime: i64) -> String {
    format!("{SESSION_COOKIE}={session}; Path=/; Max-Age={lifetime}; HttpOnly; Secure; SameSite=Strict")
}

/// Answer the nonce of a session with evidence; the token holds an EAR.
#[utoipa::path(
    post, path = "/kbs/v0/attest", request_body = Attestation,
    responses(
        (status = 200, body = Token), (status = 400, body = ProblemDocument),
        (status = 401, body = ProblemDocument, description = "No session, or one that cannot be used any more"),
        (status = 403, body = ProblemDocument, description = "The evidence was refused"),
        (status = 422, body = ProblemDocument),
    )
)]
pub async fn attest(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    RequiredJson(attestation): RequiredJson<Attestation>,
) -> Result<(Session, Json<Token>), Problem> {
    let session = cookie(&headers, SESSION_COOKIE).ok_or_else(|| {
        Problem::unauthorized(
            "session_missing",
            format!("send the cookie {SESSION_COOKIE} that came with the nonce"),
        )
    })?;
    // What is wrong in itself does not cost the guest its nonce.
    let key = attestation.runtime_data.tee_pubkey.jwk()?;
    let report_data = attestation.report_data()?;
    let now = service.environment.clock.now();
    let (tee, nonce) = match claim(&service, session, now).await? {
        Claimed::Fresh { tee, nonce } => (tee, nonce),
        Claimed::Attested(token) => return answer(&service, session, token),
    };
    if attestation.runtime_data.nonce != STANDARD.encode(&nonce) {
        return Err(Problem::unauthorized(
            "nonce_mismatch",
            "runtime-data.nonce is not the nonce of this session",
        ));
    }
    let evidence = attestation.evidence(&tee)?;
    let policies = service.policies(&evidence, &[]).await?;
    let appraisal = service.appraise(evidence, report_data, policies).await.inspect_err(|problem| {
        tracing::info!(code = problem.code, step = problem.step, detail = problem.detail, "evidence refused");
    })?;
    if let Some(init_data) = &attestation.init_data {
        check_init_data(init_data, &appraisal)?;
    }
    let token = issue(&service, appraisal, &nonce, key.clone()).await?;
    let expires = now.saturating_add(service.tokens.settings().lifetime);
    let key = serde_json::to_string(&key)
        .map_err(|error| Problem::bad_request("tee_key_invalid", error.to_string()))?;
    service.store.attest_session(session, &key, &token, expires).await?;
    answer(&service, session, token)
}

enum Claimed {
    Fresh { tee: String, nonce: Vec<u8> },
    Attested(String),
}

async fn claim(service: &Service, session: &str, now: i64) -> Result<Claimed, Problem> {
    let (code, detail) = match service.store.claim_session(session, now).await? {
        Claim::Granted { tee, nonce } => return Ok(Claimed::Fresh { tee, nonce }),
        Claim::Attested(attested) => return Ok(Claimed::Attested(attested.token)),
        Claim::Used => ("session_used", "evidence was presented in this session before"),
        Claim::Expired => ("session_expired", "this session has expired"),
        Claim::Unknown => ("session_unknown", "there is no such session"),
    };
    Err(Problem::unauthorized(code, format!("{detail}; begin a new one with POST /kbs/v0/auth")))
}

fn answer(service: &Service, session: &str, token: String) -> Result<(Session, Json<Token>), Problem> {
    let cookie = set_cookie(session, service.tokens.settings().lifetime);
    Ok(([(SET_COOKIE, cookie)], Json(Token { token })))
}

async fn issue(service: &Service, appraisal: Appraisal, nonce: &[u8], key: Jwk) -> Result<String, Problem> {
    let claims = service.issue(Issue {
        appraisal,
        requested: Vec::new(),
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        key: Some(key),
        form: Form::Ear,
    })?;
    Ok(service.tokens.sign(&claims, service.tokens.settings().algorithm).await?)
}

/// The document that the guest shows is the one that it was launched with.
fn check_init_data(init_data: &InitData, appraisal: &Appraisal) -> Result<(), Problem> {
    let attested = personalisation_value(&appraisal.tcb_status);
    if attested.is_some_and(|rpv| init_data.is_bound_by(&rpv)) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "init_data_mismatch",
        "the attested personalisation value is no SHA-256, SHA-384 or SHA-512 digest of init-data.body",
    ))
}

fn personalisation_value(tcb_status: &Map<String, Value>) -> Option<[u8; 64]> {
    let text = ["cca.realm.rpv", "vcca.cvm.rpv"].iter().find_map(|name| tcb_status.get(*name)?.as_str())?;
    hex::decode(text).ok()?.try_into().ok()
}

/// A resource, sealed to the guest's key: flattened JWE.
#[utoipa::path(
    get, path = "/kbs/v0/resource/{repository}/{type}/{tag}",
    params(
        ("repository" = String, Path, description = "The vendor of the resource"),
        ("type" = String, Path, description = "The first part of its path"),
        ("tag" = String, Path, description = "The second part of its path"),
    ),
    responses(
        (status = 200, body = Object, description = "protected, encrypted_key, iv, ciphertext, tag (RFC 7516 section 7.2.2)"),
        (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
        (status = 404, body = ProblemDocument),
    ),
    security(("token" = []), ("session" = []))
)]
pub async fn resource(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    Path((repository, kind, tag)): Path<(String, String, String)>,
) -> Result<Json<Jwe>, Problem> {
    let claims = authenticate(&service, &headers).await?;
    let name = ResourceName::new(Some(&repository), &format!("{kind}/{tag}"))
        .map_err(|error| Problem::bad_request("resource_name_invalid", error.to_string()))?;
    let release = service.release(&claims, &name).await?;
    let mut rng = service.environment.rng().map_err(|_: EntropyError| {
        Problem::unavailable("entropy_unavailable", "no randomness to encrypt the resource")
    })?;
    let sealed = jose::seal(&release.key, &release.content, &mut rng).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, resource = %name, "sealing");
        Problem::unavailable("sealing_failed", "the resource could not be encrypted to the attested key")
    })?;
    Ok(Json(sealed))
}

/// The claims of the bearer's token, or of the token that the session holds.
async fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Claims, Problem> {
    let now = service.environment.clock.now();
    if let Some(token) = bearer(headers) {
        return Ok(service.tokens.verify(token, now).await?);
    }
    let session = cookie(headers, SESSION_COOKIE).ok_or_else(|| {
        Problem::unauthorized(
            "session_missing",
            format!("send the cookie {SESSION_COOKIE}, or Authorization: Bearer with the token"),
        )
    })?;
    let attested = service.store.attested_session(session, now).await?.ok_or_else(|| {
        Problem::unauthorized(
            "session_unattested",
            "no evidence was accepted in this session, or it has expired",
        )
    })?;
    Ok(service.tokens.verify(&attested.token, now).await?)
}

/// Not here: resources are changed on the admin plane.
#[utoipa::path(
    post, path = "/kbs/v0/resource/{repository}/{type}/{tag}",
    params(
        ("repository" = String, Path, description = "The vendor of the resource"),
        ("type" = String, Path, description = "The first part of its path"),
        ("tag" = String, Path, description = "The second part of its path"),
    ),
    responses((status = 403, body = ProblemDocument))
)]
pub async fn refuse_write() -> Problem {
    elsewhere()
}
