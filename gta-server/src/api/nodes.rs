//! `/node`: machines that are enrolled, or whose key an administrator has pinned.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use utoipa::ToSchema;
use verifier::tpm::AttestationKey;

use super::collection::{Collected, handlers};
use super::enrol::public;
use super::{name, room};
use crate::auth::Caller;
use crate::health::NodeHealth;
use crate::model::{Node, Provenance};
use crate::service::{Service, Shared};
use crate::store::{Change, Document, StoreError};

handlers!(Node, "/node");

/// A machine with its attestation key.
#[derive(Deserialize, ToSchema)]
pub struct PinnedNode {
    node_id: String,
    /// `TPMT_PUBLIC` in base64.
    ak_public: String,
}

/// Pin an attestation key: an administrator says that it is in the TPM of this machine.
#[utoipa::path(
    post, path = "/node", request_body = PinnedNode,
    responses(
        (status = 200, body = Object, description = "`node_id` and the key's name, `ak_name`"),
        (status = 409, description = "There is a node of this name, or there are as many as there may be"),
    )
)]
pub async fn pin(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<PinnedNode>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    name("node_id", &request.node_id)?;
    let key = public("ak_public", &request.ak_public)?;
    AttestationKey::from_public(&key).map_err(super::refusal::refused)?;
    let node = Node {
        attestation_key: STANDARD.encode(key.encode()),
        provenance: Provenance::Pinned,
        enrolled_at: service.now(),
    };
    register(&service, &caller, &request.node_id, &node).await?;
    Ok(Json(json!({ "node_id": request.node_id, "ak_name": key.name().to_string() })))
}

/// Registers a node that is not there yet.
pub async fn register(service: &Service, caller: &Caller, id: &str, node: &Node) -> Result<(), Problem> {
    let present = service.store.count::<Node>(&caller.tenant).await?;
    room("nodes", present, service.settings.max_nodes)?;
    let mut change = service.store.change(&caller.name).await?;
    change.add(&caller.tenant, id, id, node).await?;
    Ok(change.commit().await?)
}

impl Collected for Node {
    const PLURAL: &'static str = "nodes";

    fn has_type(&self, _: &str) -> bool {
        true
    }

    fn full(document: &Document<Self>) -> Value {
        json!({
            "node_id": document.id,
            "ak_public": document.body.attestation_key,
            "provenance": document.body.provenance,
            "enrolled_at": document.body.enrolled_at,
        })
    }

    fn brief(document: &Document<Self>) -> Value {
        Self::full(document)
    }

    /// How it is: of a node that is gone no report is to be missed.
    async fn forget(change: &mut Change, tenant: &str, id: &str) -> Result<(), StoreError> {
        change.forget_state::<NodeHealth>(tenant, id).await
    }
}
