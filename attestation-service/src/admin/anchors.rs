//! `/trust-anchors`: platform keys that are believed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use verifier::TrustAnchor;

use super::identity::Operator;
use super::{Intent, documents, provenance, public_key, stored_name};
use crate::api::TrustAnchorDocument;
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::anchors::PlatformAnchor;
use crate::store::sha256;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<TrustAnchorDocument>>, Problem> {
    documents(service.store.anchors().await?, |platform: PlatformAnchor| {
        let anchor = platform.anchor;
        Ok(TrustAnchorDocument {
            name: stored_name(anchor.name)?,
            implementation_id: platform.implementation_id,
            instance_id: platform.instance_id,
            public_key: hex::encode(anchor.key.sec1_point()),
            development: anchor.development,
            source: anchor.provenance.source,
            added_at: anchor.provenance.added_at,
            expires_at: platform.expires_at,
        })
    })
}

pub async fn add(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<TrustAnchorDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let digest = Some(sha256(document.public_key.as_bytes()));
    let intent = Intent { operator: &operator, action: "trust_anchor.add", object: &object, digest };
    service
        .change(intent, async |change| {
            let platform = PlatformAnchor {
                implementation_id: document.implementation_id,
                instance_id: document.instance_id,
                anchor: TrustAnchor {
                    name: document.name.into(),
                    key: public_key(&document.public_key)?,
                    development: document.development,
                    provenance: provenance(&service, document.source)?,
                },
                expires_at: document.expires_at,
            };
            Ok(change.add_anchor(&platform).await?)
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
        .remove(&operator, "trust_anchor.delete", "trust anchor", &name, async |change, name| {
            change.delete_anchor(name).await
        })
        .await
}
