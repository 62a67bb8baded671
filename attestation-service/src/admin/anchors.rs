//! `/trust-anchors`: platform keys that are believed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use verifier::{PublicKey, TrustAnchor, denied};

use super::identity::Operator;
use super::{Intent, found, name, provenance, stored_name, unprocessable};
use crate::api::TrustAnchorDocument;
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::anchors::PlatformAnchor;
use crate::store::sha256;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<TrustAnchorDocument>>, Problem> {
    let anchors = service.store.anchors().await?;
    let document = |platform: PlatformAnchor| {
        let anchor = platform.anchor;
        Ok(TrustAnchorDocument {
            name: stored_name(anchor.name)?,
            implementation_id: platform.implementation_id,
            instance_id: platform.instance_id,
            public_key: hex::encode(anchor.key.sec1_point()),
            development: anchor.development,
            source: anchor.provenance.source,
            added_at: anchor.provenance.added_at,
        })
    };
    anchors.into_iter().map(document).collect::<Result<_, Problem>>().map(Json)
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
            let key = PublicKey::from_pem(&document.public_key)
                .map_err(|error| unprocessable("public_key_invalid", format!("public_key: {error}")))?;
            denied::check(&key).map_err(|error| {
                Problem::new(StatusCode::FORBIDDEN, "trust_anchor_denied", error.to_string())
            })?;
            let platform = PlatformAnchor {
                implementation_id: document.implementation_id,
                instance_id: document.instance_id,
                anchor: TrustAnchor {
                    name: document.name.into(),
                    key,
                    development: document.development,
                    provenance: provenance(&service, document.source)?,
                },
            };
            Ok(change.add_anchor(&platform).await?)
        })
        .await?;
    Ok(StatusCode::CREATED)
}

pub async fn remove(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path(text): Path<String>,
) -> Result<StatusCode, Problem> {
    let name = name(&text)?;
    let intent =
        Intent { operator: &operator, action: "trust_anchor.delete", object: name.as_str(), digest: None };
    service
        .change(intent, async |change| {
            found("trust anchor", name.as_str(), change.delete_anchor(name.as_str()).await?)
        })
        .await
}
