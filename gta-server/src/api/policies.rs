//! `/policy`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use utoipa::ToSchema;
use verifier::Rules;
use verifier::rego::Rego;

use super::collection::{self, Collected, handlers};
use super::leisure::at_leisure;
use super::{description, name, room};
use crate::appraise::{self, BUILT_IN, signed};
use crate::auth::Caller;
use crate::json::with;
use crate::model::{AttesterType, CertType, Policy, Role};
use crate::service::{Service, Shared};
use crate::store::Document;

/// Where a policy puts its result.
const ENTRY_POINT: &str = "data.verification.result";

handlers!(Policy, "/policy");

/// A policy.
#[derive(Deserialize, ToSchema)]
pub struct NewPolicy {
    name: String,
    description: Option<String>,
    attester_type: Vec<AttesterType>,
    content_type: ContentType,
    content: String,
    /// Whether it applies to all evidence of its types.
    #[serde(default)]
    is_default: bool,
    /// What is demanded of virtCCA platforms and logs before Rego is asked.
    #[schema(value_type = Option<Object>)]
    rules: Option<Rules>,
}

/// What the content is.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ContentType {
    /// Rego in base64.
    Text,
    /// A JWT by a signer of policies, whose payload has Rego in base64.
    Jwt,
}

#[derive(Deserialize)]
struct SignedPolicy {
    policy: String,
}

/// What is to be other of a policy.
#[derive(Deserialize, ToSchema)]
pub struct ChangedPolicy {
    id: String,
    name: Option<String>,
    description: Option<String>,
    attester_type: Option<Vec<AttesterType>>,
    content_type: Option<ContentType>,
    content: Option<String>,
    is_default: Option<bool>,
    #[schema(value_type = Option<Object>)]
    rules: Option<Rules>,
}

/// What applies to evidence of each type for which a tenant has no default policy.
#[utoipa::path(
    get, path = "/policy/built_in",
    responses((status = 200, body = Object, description = "`policies`, with their content"))
)]
pub async fn built_in(caller: Caller) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Auditor])?;
    let policies = AttesterType::ALL.map(|kind| {
        json!({
            "id": BUILT_IN,
            "name": BUILT_IN,
            "attester_type": [kind],
            "content": STANDARD.encode(appraise::built_in(kind)),
            "is_default": true,
            "version": 0,
        })
    });
    Ok(Json(json!({ "policies": policies })))
}

/// Add a policy.
#[utoipa::path(
    post, path = "/policy", request_body = NewPolicy,
    responses(
        (status = 200, body = Object, description = "`policy`: `id`, `name`, `version`"),
        (status = 409, description = "The name is taken, or there are as many as there may be"),
    )
)]
pub async fn add(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<NewPolicy>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    name("name", &request.name)?;
    let policy = Policy {
        description: description(request.description)?,
        attester_type: types(request.attester_type)?,
        rego: rego(&service, &caller, request.content_type, request.content).await?,
        rules: request.rules,
        is_default: request.is_default,
        update_time: service.now().saturating_mul(1000),
    };
    let present = service.store.count::<Policy>(&caller.tenant).await?;
    room("policies", present, service.settings.max_policies)?;
    let id = service.new_id()?;
    let mut change = service.store.change(&caller.name).await?;
    change.add(&caller.tenant, &id, &request.name, &policy).await?;
    change.commit().await?;
    Ok(Json(json!({ "policy": { "id": id, "name": request.name, "version": 1 } })))
}

/// Change a policy. What is sent is looked at as if it were new; what is not stays.
#[utoipa::path(
    put, path = "/policy", request_body = ChangedPolicy,
    responses(
        (status = 200, body = Object, description = "`policy`: `id`, `name`, `version`"),
        (status = 404, description = "There is no such policy"),
        (status = 409, description = "The name is taken"),
    )
)]
pub async fn replace(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<ChangedPolicy>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    let before = collection::find::<Policy>(&service, &caller, &request.id).await?;
    let mut policy = before.body.clone();
    let new_name = request.name.unwrap_or_else(|| before.name.clone());
    name("name", &new_name)?;
    if request.description.is_some() {
        policy.description = description(request.description)?;
    }
    if let Some(kinds) = request.attester_type {
        policy.attester_type = types(kinds)?;
    }
    if let Some(content) = request.content {
        let kind = request.content_type.ok_or_else(|| {
            Problem::bad_request("content_type_missing", "content needs content_type: text or jwt")
        })?;
        policy.rego = rego(&service, &caller, kind, content).await?;
    }
    if request.rules.is_some() {
        policy.rules = request.rules;
    }
    policy.is_default = request.is_default.unwrap_or(policy.is_default);
    policy.update_time = service.now().saturating_mul(1000);
    let mut change = service.store.change(&caller.name).await?;
    let version = change.replace(&caller.tenant, &before, &new_name, &policy).await?;
    change.commit().await?;
    Ok(Json(json!({ "policy": { "id": before.id, "name": new_name, "version": version } })))
}

fn types(kinds: Vec<AttesterType>) -> Result<Vec<AttesterType>, Problem> {
    if kinds.is_empty() {
        return Err(Problem::bad_request("attester_type_missing", "attester_type names at least one type"));
    }
    Ok(kinds)
}

/// The Rego in `content`, which can be used and, in a JWT, is signed.
async fn rego(
    service: &Service,
    caller: &Caller,
    kind: ContentType,
    content: String,
) -> Result<String, Problem> {
    let text = match kind {
        ContentType::Text => content,
        ContentType::Jwt => {
            let signers = super::certs::signers(service, &caller.tenant, CertType::Policy).await?;
            let signed: SignedPolicy = signed::open(&content, &signers, service.now())
                .map_err(|error| Problem::bad_request("signature_invalid", error.to_string()))?;
            signed.policy
        }
    };
    let rego = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let rego = rego.ok_or_else(|| {
        Problem::bad_request("policy_invalid", "content must be base64 of Rego (or of a JWT's member policy)")
    })?;
    at_leisure(move || {
        Rego::compile("policy", ENTRY_POINT, &rego)
            .map_err(|error| Problem::bad_request("policy_invalid", error.to_string()))?;
        Ok(rego)
    })
    .await
}

/// The policies of a tenant.
pub async fn of_tenant(service: &Service, tenant: &str) -> Result<Arc<Vec<Document<Policy>>>, Problem> {
    let revision = service.revision::<Policy>(tenant).await?;
    let read = async || Ok(service.store.list::<Policy>(tenant).await?);
    service.known.policies.get(tenant.to_owned(), revision, read).await
}

impl Collected for Policy {
    const PLURAL: &'static str = "policies";

    fn has_type(&self, name: &str) -> bool {
        self.attester_type.iter().any(|kind| kind.name() == name)
    }

    fn full(document: &Document<Self>) -> Value {
        let Policy { description, attester_type, rego, rules, is_default, update_time } = &document.body;
        let full = json!({
            "id": document.id,
            "name": document.name,
            "description": description,
            "content": STANDARD.encode(rego),
            "attester_type": attester_type,
            "is_default": is_default,
            "version": document.version,
            "update_time": update_time,
            "valid_code": 0,
        });
        match rules {
            Some(rules) => with(full, "rules", json!(rules)),
            None => full,
        }
    }

    fn brief(document: &Document<Self>) -> Value {
        json!({
            "id": document.id,
            "name": document.name,
            "attester_type": document.body.attester_type,
            "is_default": document.body.is_default,
            "version": document.version,
            "update_time": document.body.update_time,
        })
    }
}
