//! `/platform-references`: software and configuration that are expected of CCA platforms.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use verifier::PlatformReference;
use verifier::corim::PlatformEndorsement;

use super::identity::Operator;
use super::{Intent, documents, no_nul, provenance, stored_name, unprocessable};
use crate::api::{ExpectedComponent, PlatformReferenceDocument};
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::sha256;

/// Longest type or version of a component, in characters; longer ones could not be in a token that is read.
const MAX_TEXT: usize = 256;

pub async fn list(
    State(service): State<Arc<Service>>,
) -> Result<Json<Vec<PlatformReferenceDocument>>, Problem> {
    documents(service.store.platform_references().await?, |reference: PlatformReference| {
        let expected = reference.expected;
        Ok(PlatformReferenceDocument {
            name: stored_name(reference.name)?,
            implementation_id: expected.implementation_id,
            instance_id: expected.instance_id,
            components: expected.components.into_iter().map(Into::into).collect(),
            config: expected.configuration.into(),
            source: reference.provenance.source,
            added_at: reference.provenance.added_at,
            expires_at: reference.expires_at,
        })
    })
}

pub async fn add(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<PlatformReferenceDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let digest = Some(sha256(&serde_json::to_vec(&document).unwrap_or_default()));
    let intent = Intent { operator: &operator, action: "platform_reference.add", object: &object, digest };
    service
        .change(intent, async |change| {
            check(&document)?;
            let reference = PlatformReference {
                name: document.name.into(),
                expected: PlatformEndorsement {
                    implementation_id: document.implementation_id,
                    instance_id: document.instance_id,
                    components: document.components.into_iter().map(Into::into).collect(),
                    configuration: document.config.into(),
                },
                provenance: provenance(&service, document.source)?,
                expires_at: document.expires_at,
            };
            Ok(change.add_platform_reference(&reference).await?)
        })
        .await?;
    Ok(StatusCode::CREATED)
}

/// A reference that no platform could match is a mistake.
fn check(document: &PlatformReferenceDocument) -> Result<(), Problem> {
    let invalid = |detail: &str| Err(unprocessable("platform_reference_invalid", detail.to_owned()));
    if document.components.is_empty() {
        return invalid("components: a platform has at least one");
    }
    for ExpectedComponent { kind, version, measurements, .. } in &document.components {
        if measurements.is_empty() {
            return invalid("components: each needs a measurement");
        }
        for text in kind.iter().chain(version) {
            no_nul("components", text)?;
            if text.chars().count() > MAX_TEXT {
                return invalid("components: a type or version is longer than in any token");
            }
        }
    }
    if document.config.value.0.len() != document.config.mask.0.len() {
        return invalid("config: value and mask have the same length");
    }
    Ok(())
}

pub async fn remove(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    service
        .remove(&operator, "platform_reference.delete", "platform reference", &name, async |change, name| {
            change.delete_platform_reference(name).await
        })
        .await
}
