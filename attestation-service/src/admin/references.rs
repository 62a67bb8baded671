//! `/references` and `/named-references`: measurements that are expected.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use verifier::RealmReference;

use super::identity::Operator;
use super::{Intent, documents, provenance, stored_name, unprocessable};
use crate::api::{NamedReferenceDocument, ReferenceDocument};
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::references::{NamedReference, StoredReference};
use crate::store::sha256;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<ReferenceDocument>>, Problem> {
    documents(service.store.references().await?, |stored: StoredReference| {
        let reference = stored.reference;
        Ok(ReferenceDocument {
            name: stored_name(reference.name)?,
            rim: reference.rim,
            rpv: reference.rpv,
            rems: reference.rems,
            logs: reference.logs.as_deref().cloned(),
            source: reference.provenance.source,
            added_at: reference.provenance.added_at,
            expires_at: stored.expires_at,
        })
    })
}

pub async fn add(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<ReferenceDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let digest = Some(sha256(document.rim.as_bytes()));
    let intent = Intent { operator: &operator, action: "reference.add", object: &object, digest };
    service
        .change(intent, async |change| {
            let stored = StoredReference {
                reference: RealmReference {
                    name: document.name.into(),
                    rim: document.rim,
                    rpv: document.rpv,
                    rems: document.rems,
                    logs: document.logs.map(Arc::new),
                    provenance: provenance(&service, document.source)?,
                },
                expires_at: document.expires_at,
            };
            Ok(change.add_reference(&stored).await?)
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
        .remove(&operator, "reference.delete", "reference value", &name, async |change, name| {
            change.delete_reference(name).await
        })
        .await
}

pub async fn list_named(
    State(service): State<Arc<Service>>,
) -> Result<Json<Vec<NamedReferenceDocument>>, Problem> {
    documents(service.store.named_references().await?, |named: NamedReference| {
        Ok(NamedReferenceDocument {
            name: stored_name(named.name)?,
            value: named.value,
            source: named.provenance.source,
            added_at: named.provenance.added_at,
            expires_at: named.expires_at,
        })
    })
}

pub async fn add_named(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<NamedReferenceDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let digest = Some(sha256(document.value.to_string().as_bytes()));
    let intent = Intent { operator: &operator, action: "named_reference.set", object: &object, digest };
    service
        .change(intent, async |change| {
            if document.value.is_null() {
                // A claim that is absent is null to secGear's policies: it must never be an expected one.
                return Err(unprocessable("value_invalid", "value: null cannot be expected".to_owned()));
            }
            let named = NamedReference {
                name: document.name.into(),
                value: document.value,
                provenance: provenance(&service, document.source)?,
                expires_at: document.expires_at,
            };
            Ok(change.set_named_reference(&named).await?)
        })
        .await?;
    Ok(StatusCode::CREATED)
}

pub async fn remove_named(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    service
        .remove(&operator, "named_reference.delete", "named reference value", &name, async |change, name| {
            Ok(change.delete_named_references(name).await? > 0)
        })
        .await
}
