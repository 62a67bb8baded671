//! The admin plane: trust anchors, reference values, policies and resources, for the service's own user on this machine.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use verifier::{AppraisalPolicy, Provenance, PublicKey, RealmReference, TrustAnchor, denied};
use zeroize::Zeroizing;

use crate::api::{
    NewResourceDocument, PolicyDocument, ReferenceDocument, ResourceDocument, TrustAnchorDocument,
};
use crate::extract::RequiredJson;
use crate::http;
use crate::names::{Name, ResourceName};
use crate::problem::Problem;
use crate::service::{DEFAULT_POLICY_ID, Service, built_in_policy};
use crate::store::anchors::PlatformAnchor;
use crate::store::policies::StoredPolicy;

/// Without it a note could fill the database.
const MAX_SOURCE: usize = 512;

/// The user at the other end of the admin socket, as the kernel reports it.
#[derive(Clone, Copy, Debug)]
pub struct PeerUid(pub u32);

/// The router of the admin socket; it serves the user `uid` and nobody else.
pub fn router(service: Arc<Service>, uid: u32) -> Router {
    let routes = Router::new()
        .route("/trust-anchors", get(list_anchors).post(add_anchor))
        .route("/trust-anchors/{name}", delete(delete_anchor))
        .route("/references", get(list_references).post(add_reference))
        .route("/references/{name}", delete(delete_reference))
        .route("/policies", get(list_policies).post(add_policy))
        .route("/policies/{id}", delete(delete_policy))
        .route("/resources", get(list_resources).post(add_resource))
        .route("/resources/{vendor}/{*path}", delete(delete_resource));
    http::dress(routes).layer(middleware::from_fn_with_state(uid, require_uid)).with_state(service)
}

async fn require_uid(
    State(uid): State<u32>,
    peer: Option<Extension<PeerUid>>,
    request: Request,
    next: Next,
) -> Response {
    // A request that did not come through the socket has no peer and is refused too.
    match peer {
        Some(Extension(PeerUid(found))) if found == uid => next.run(request).await,
        _ => {
            tracing::warn!(peer = ?peer.map(|Extension(peer)| peer.0), "admin request of another user refused");
            Problem::new(
                StatusCode::FORBIDDEN,
                "admin_peer_denied",
                "the admin socket serves only the user that the service runs as",
            )
            .into_response()
        }
    }
}

type Shared = State<Arc<Service>>;

async fn list_anchors(State(service): Shared) -> Result<Json<Vec<TrustAnchorDocument>>, Problem> {
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

async fn add_anchor(
    State(service): Shared,
    RequiredJson(document): RequiredJson<TrustAnchorDocument>,
) -> Result<StatusCode, Problem> {
    let key = PublicKey::from_pem(&document.public_key)
        .map_err(|error| unprocessable("public_key_invalid", format!("public_key: {error}")))?;
    denied::check(&key)
        .map_err(|error| Problem::new(StatusCode::FORBIDDEN, "trust_anchor_denied", error.to_string()))?;
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
    service.store.add_anchor(&platform).await?;
    let anchor = &platform.anchor;
    tracing::info!(name = anchor.name, development = anchor.development, "trust anchor added");
    Ok(StatusCode::CREATED)
}

async fn delete_anchor(State(service): Shared, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    deleted("trust anchor", &name, service.store.delete_anchor(&name).await?)
}

async fn list_references(State(service): Shared) -> Result<Json<Vec<ReferenceDocument>>, Problem> {
    let references = service.store.references().await?;
    let document = |reference: RealmReference| {
        Ok(ReferenceDocument {
            name: stored_name(reference.name)?,
            rim: reference.rim,
            rpv: reference.rpv,
            rems: reference.rems,
            source: reference.provenance.source,
            added_at: reference.provenance.added_at,
        })
    };
    references.into_iter().map(document).collect::<Result<_, Problem>>().map(Json)
}

async fn add_reference(
    State(service): Shared,
    RequiredJson(document): RequiredJson<ReferenceDocument>,
) -> Result<StatusCode, Problem> {
    let reference = RealmReference {
        name: document.name.into(),
        rim: document.rim,
        rpv: document.rpv,
        rems: document.rems,
        logs: None,
        provenance: provenance(&service, document.source)?,
    };
    service.store.add_reference(&reference).await?;
    tracing::info!(name = reference.name, rim = %reference.rim, "reference value added");
    Ok(StatusCode::CREATED)
}

async fn delete_reference(State(service): Shared, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    deleted("reference value", &name, service.store.delete_reference(&name).await?)
}

async fn list_policies(State(service): Shared) -> Result<Json<Vec<PolicyDocument>>, Problem> {
    let mut policies = service.store.policies().await?;
    if policies.iter().all(|policy| policy.id != DEFAULT_POLICY_ID) {
        policies.insert(0, built_in_policy());
    }
    let document = |policy: StoredPolicy| {
        Ok(PolicyDocument {
            id: stored_name(policy.id)?,
            rego: policy.rego,
            exceptions: policy.exceptions,
            added_at: policy.added_at,
        })
    };
    policies.into_iter().map(document).collect::<Result<_, Problem>>().map(Json)
}

async fn add_policy(
    State(service): Shared,
    RequiredJson(document): RequiredJson<PolicyDocument>,
) -> Result<StatusCode, Problem> {
    AppraisalPolicy::new(document.id.as_str(), &document.rego, Vec::new())
        .map_err(|error| unprocessable("policy_invalid", error.to_string()))?;
    let policy = StoredPolicy {
        id: document.id.into(),
        rego: document.rego,
        exceptions: document.exceptions,
        added_at: service.environment.clock.now(),
    };
    service.store.add_policy(&policy).await?;
    tracing::info!(id = policy.id, exceptions = policy.exceptions.len(), "policy added");
    Ok(StatusCode::CREATED)
}

async fn delete_policy(State(service): Shared, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    deleted("policy", &id, service.store.delete_policy(&id).await?)
}

async fn list_resources(State(service): Shared) -> Result<Json<Vec<ResourceDocument>>, Problem> {
    let resources = service.store.resources().await?;
    let document = |entry: crate::store::resources::ResourceEntry| ResourceDocument {
        name: format!("{}/{}", entry.vendor, entry.path),
        size: entry.size,
        added_at: entry.added_at,
    };
    Ok(Json(resources.into_iter().map(document).collect()))
}

async fn add_resource(
    State(service): Shared,
    RequiredJson(document): RequiredJson<NewResourceDocument>,
) -> Result<StatusCode, Problem> {
    let text = Zeroizing::new(document.content);
    let name: ResourceName = document
        .name
        .parse()
        .map_err(|error| unprocessable("resource_name_invalid", format!("name: {error}")))?;
    let content = STANDARD
        .decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| unprocessable("content_malformed", "content is standard base64".to_owned()))?;
    if content.len() > jose::MAX_PLAINTEXT_LEN {
        return Err(unprocessable(
            "content_too_long",
            format!(
                "content has {} bytes, at most {} can be released",
                content.len(),
                jose::MAX_PLAINTEXT_LEN
            ),
        ));
    }
    service.store.add_resource(&name, &content, service.environment.clock.now()).await?;
    tracing::info!(%name, size = content.len(), "resource added");
    Ok(StatusCode::CREATED)
}

async fn delete_resource(
    State(service): Shared,
    Path((vendor, path)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let name = ResourceName::new(Some(&vendor), &path)
        .map_err(|error| unprocessable("resource_name_invalid", error.to_string()))?;
    deleted("resource", &name.to_string(), service.store.delete_resource(&name).await?)
}

fn unprocessable(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

fn deleted(what: &str, name: &str, found: bool) -> Result<StatusCode, Problem> {
    if found {
        tracing::info!(what, name, "deleted");
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown", format!("there is no {what} {name}")))
}

fn stored_name(name: String) -> Result<Name, Problem> {
    name.try_into().map_err(|_| {
        tracing::error!("a stored name does not follow the grammar");
        Problem::unavailable("store_unavailable", "the service's database cannot be used now")
    })
}

fn provenance(service: &Service, source: String) -> Result<Provenance, Problem> {
    if source.len() > MAX_SOURCE {
        return Err(unprocessable("source_too_long", format!("source may have {MAX_SOURCE} bytes")));
    }
    Ok(Provenance { source, added_at: service.environment.clock.now() })
}
