//! `/corim-signers`: keys whose signature on CoRIM documents is believed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::identity::Operator;
use super::{Intent, documents, provenance, public_key, stored_name, unprocessable};
use crate::api::CorimSignerDocument;
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::corim_signers::StoredSigner;
use crate::store::sha256;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<CorimSignerDocument>>, Problem> {
    documents(service.store.corim_signers().await?, |signer: StoredSigner| {
        Ok(CorimSignerDocument {
            name: stored_name(signer.name)?,
            public_key: hex::encode(signer.key.sec1_point()),
            endorses: signer.endorses,
            source: signer.provenance.source,
            added_at: signer.provenance.added_at,
        })
    })
}

pub async fn add(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<CorimSignerDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let digest = Some(sha256(document.public_key.as_bytes()));
    let intent = Intent { operator: &operator, action: "corim_signer.add", object: &object, digest };
    service
        .change(intent, async |change| {
            if document.endorses.is_empty() {
                let detail = "endorses: expected one or more of realms, platforms and keys".to_owned();
                return Err(unprocessable("endorses_invalid", detail));
            }
            let signer = StoredSigner {
                name: document.name.into(),
                key: public_key(&document.public_key)?,
                endorses: document.endorses,
                provenance: provenance(&service, document.source)?,
            };
            Ok(change.add_corim_signer(&signer).await?)
        })
        .await?;
    Ok(StatusCode::CREATED)
}

pub async fn remove(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    service
        .remove(&operator, "corim_signer.delete", "CoRIM signer", &name, async |change, name| {
            change.delete_corim_signer(name).await
        })
        .await
}
