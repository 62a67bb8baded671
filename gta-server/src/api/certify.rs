//! `/enroll/certified`: a machine's initial attestation key (IAK), which its maker has certified, says that the machine's
//! attestation key is in the same TPM (TCG TPM 2.0 Keys for Device Identity and Attestation, 6.2).

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use utoipa::ToSchema;
use verifier::chain::Purpose;
use verifier::tpm::{AttestationKey, certified_key};

use super::certs::authorities;
use super::enrol::{certificate, free, public};
use super::refusal::refused;
use super::{name, nodes};
use crate::appraise::qualifying_data;
use crate::auth::Caller;
use crate::model::{CertType, Node, Provenance, Role};
use crate::nonce::NonceType;
use crate::service::Shared;

/// A machine's key, and what its initial one says of that.
#[derive(Deserialize, ToSchema)]
pub struct Certified {
    node_id: String,
    /// As `POST /challenge` gave it.
    nonce: String,
    /// Of the initial attestation key: PEM, with sub CAs behind it, or DER in base64.
    iak_certificate: String,
    /// `TPMT_PUBLIC` in base64.
    ak_public: String,
    /// `TPMS_ATTEST` in base64.
    certify_info: String,
    /// `TPMT_SIGNATURE` in base64.
    signature: String,
}

/// Register a machine whose key is certified.
#[utoipa::path(
    post, path = "/enroll/certified", request_body = Certified,
    responses(
        (status = 200, body = Object, description = "`node_id` and `provenance`"),
        (status = 409, description = "There is a node of this name, or there are as many as there may be"),
    )
)]
pub async fn enrol(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<Certified>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Agent])?;
    name("node_id", &request.node_id)?;
    let key = public("ak_public", &request.ak_public)?;
    let attest = decoded("certify_info", &request.certify_info)?;
    let signature = decoded("signature", &request.signature)?;
    let certificate = certificate("iak_certificate", &request.iak_certificate)?;
    let bundle = authorities(&service, &caller.tenant, CertType::TpmIak).await?;
    let device = bundle
        .certified(&certificate, Purpose::Attestation, service.now())
        .map_err(|error| Problem::bad_request(error.code().as_str(), error.to_string()))?;
    let initial = AttestationKey::from_certified(&device.key).map_err(refused)?;
    free(&service, &caller, &request.node_id).await?;
    let nonce = service
        .take_nonce(&caller.tenant, &request.node_id, NonceType::Verifier, Some(&request.nonce))
        .await?;
    let qualifying = qualifying_data(&nonce, None).map_err(refused)?;
    certified_key(&initial, &key, &attest, &signature, &qualifying).map_err(refused)?;
    let node = Node {
        attestation_key: STANDARD.encode(key.encode()),
        provenance: Provenance::Certified {
            initial: device.fingerprint.to_string(),
            root: device.root_subject.clone(),
        },
        enrolled_at: service.now(),
    };
    nodes::register(&service, &caller, &request.node_id, &node).await?;
    Ok(Json(json!({ "node_id": request.node_id, "provenance": node.provenance })))
}

fn decoded(field: &'static str, text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD
        .decode(text)
        .map_err(|_| Problem::bad_request("base64_malformed", format!("{field} is not standard base64")))
}
