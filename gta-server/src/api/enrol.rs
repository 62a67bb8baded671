//! `/enroll`: a machine proves that its attestation key is in a TPM of an installed manufacturer, by opening a credential.

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::tpm::Public;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use utoipa::ToSchema;
use verifier::tpm::credential::make_credential;
use verifier::tpm::{AttestationKey, endorsement_key};

use super::certs::authorities;
use super::refusal::refused;
use super::{name, nodes};
use crate::auth::Caller;
use crate::model::{CertType, Node, Provenance, Role};
use crate::service::{Service, Shared, no_entropy};
use crate::store::Enrolment;

/// How long a credential can be opened, in seconds.
const LIFETIME: i64 = 300;

/// A machine's keys.
#[derive(Deserialize, ToSchema)]
pub struct Begin {
    node_id: String,
    /// In PEM, with sub CAs behind it, or DER in base64.
    ek_certificate: String,
    /// `TPMT_PUBLIC` in base64.
    ek_public: String,
    /// The same.
    ak_public: String,
}

/// What the TPM has opened.
#[derive(Deserialize, ToSchema)]
pub struct Activate {
    enrollment_id: String,
    /// What was in the credential, in base64.
    credential: String,
}

/// Begin an enrolment: a credential for a machine's two keys, which only its TPM opens.
#[utoipa::path(
    post, path = "/enroll", request_body = Begin,
    responses(
        (
            status = 200, body = Object,
            description = "`enrollment_id`, and in base64 `credential_blob` and `encrypted_secret`"
        ),
        (status = 409, description = "There is a node of this name"),
    )
)]
pub async fn begin(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<Begin>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Agent])?;
    name("node_id", &request.node_id)?;
    let (endorsement, attestation) =
        (public("ek_public", &request.ek_public)?, public("ak_public", &request.ak_public)?);
    AttestationKey::from_public(&attestation).map_err(refused)?;
    let certificate = certificate("ek_certificate", &request.ek_certificate)?;
    let bundle = authorities(&service, &caller.tenant, CertType::TpmEk).await?;
    let device = endorsement_key(&endorsement, &certificate, &bundle, service.now()).map_err(refused)?;
    free(&service, &caller, &request.node_id).await?;
    let secret = service.environment.random::<32>().map_err(no_entropy)?;
    let mut rng = service.environment.rng().map_err(no_entropy)?;
    let (object, encrypted) = make_credential(&endorsement, &attestation.name(), &secret, &mut rng)
        .map_err(|error| Problem::bad_request("ek_unsupported", error.to_string()))?;
    let node = Node {
        attestation_key: STANDARD.encode(attestation.encode()),
        provenance: Provenance::Activated {
            endorsement: device.fingerprint.to_string(),
            root: device.root_subject.clone(),
        },
        enrolled_at: service.now(),
    };
    let id = service.new_id()?;
    let enrolment = Enrolment { node_id: request.node_id, node };
    let expires_at = service.now().saturating_add(LIFETIME);
    let expected = digest(&SHA256, &secret);
    service.store.add_enrolment(&caller.tenant, &id, &enrolment, expected.as_ref(), expires_at).await?;
    Ok(Json(json!({
        "enrollment_id": id,
        "credential_blob": STANDARD.encode(object.encode()),
        "encrypted_secret": STANDARD.encode(encrypted.encode()),
    })))
}

/// End an enrolment: the machine is registered if it has opened its credential.
#[utoipa::path(
    post, path = "/enroll/activate", request_body = Activate,
    responses(
        (status = 200, body = Object, description = "`node_id` and `provenance`"),
        (status = 403, description = "That is not what was in the credential"),
        (status = 409, description = "There is a node of this name, or there are as many as there may be"),
    )
)]
pub async fn activate(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<Activate>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Agent])?;
    let credential = STANDARD
        .decode(&request.credential)
        .map_err(|_| Problem::bad_request("credential_malformed", "credential is not standard base64"))?;
    let opened = digest(&SHA256, &credential);
    let taken = service.store.take_enrolment(&caller.tenant, &request.enrollment_id, opened.as_ref()).await?;
    let Enrolment { node_id, node } = taken.ok_or_else(|| {
        Problem::new(
            StatusCode::FORBIDDEN,
            "credential_wrong",
            "this is not what was in the credential, or it has expired: enrol again",
        )
    })?;
    nodes::register(&service, &caller, &node_id, &node).await?;
    Ok(Json(json!({ "node_id": node_id, "provenance": node.provenance })))
}

/// Whether no machine has this name.
pub async fn free(service: &Service, caller: &Caller, node: &str) -> Result<(), Problem> {
    if service.store.get::<Node>(&caller.tenant, node).await?.is_none() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::CONFLICT,
        "node_exists",
        "there is a node of this name: an administrator must delete it before another machine can be it",
    ))
}

/// A public area as it is sent: `TPMT_PUBLIC` in base64.
pub fn public(field: &'static str, text: &str) -> Result<Public, Problem> {
    let malformed =
        |reason: String| Problem::bad_request("tpm_public_malformed", format!("{field}: {reason}"));
    let bytes = STANDARD.decode(text).map_err(|_| malformed("not standard base64".to_owned()))?;
    Public::decode(&bytes).map_err(|error| malformed(error.to_string()))
}

/// A certificate as it is sent: PEM, or DER in base64.
pub fn certificate(field: &'static str, text: &str) -> Result<Vec<u8>, Problem> {
    if text.contains("-----BEGIN ") {
        return Ok(text.as_bytes().to_vec());
    }
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_| {
        Problem::bad_request("certificate_malformed", format!("{field} must be PEM, or DER in base64"))
    })
}
