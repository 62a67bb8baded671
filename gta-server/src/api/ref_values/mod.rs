//! `/ref_value`: files, boots and virtCCA machines that are known, signed by a signer of the tenant.

mod known;
mod payload;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use utoipa::ToSchema;

pub use known::{boots, files, realms};
use payload::{Signed, signed};

use super::collection::{self, Collected, handlers};
use super::{description, name, room};
use crate::auth::Caller;
use crate::json::with;
use crate::model::{AttesterType, RefValue};
use crate::service::Shared;
use crate::store::Document;

handlers!(RefValue, "/ref_value");

/// Reference values.
#[derive(Deserialize, ToSchema)]
pub struct NewRefValue {
    name: String,
    description: Option<String>,
    attester_type: AttesterType,
    /// A JWT by a signer of the tenant.
    content: String,
}

/// What is to be other of reference values.
#[derive(Deserialize, ToSchema)]
pub struct ChangedRefValue {
    id: String,
    name: Option<String>,
    description: Option<String>,
    content: Option<String>,
}

/// Add reference values.
#[utoipa::path(
    post, path = "/ref_value", request_body = NewRefValue,
    responses(
        (status = 200, body = Object, description = "`ref_value`: `id`, `name`, `version`"),
        (status = 409, description = "The name is taken, or there are as many as there may be"),
    )
)]
pub async fn add(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<NewRefValue>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    name("name", &request.name)?;
    let Signed { files, ima, boot, realms } =
        signed(&service, &caller, request.attester_type, &request.content).await?;
    let present = service.store.count::<RefValue>(&caller.tenant).await?;
    room("sets of reference values", present, service.settings.max_ref_values)?;
    let body = RefValue {
        description: description(request.description)?,
        attester_type: request.attester_type,
        jwt: request.content,
        files,
        ima,
        boot,
        realms,
    };
    let id = service.new_id()?;
    let mut change = service.store.change(&caller.name).await?;
    change.add(&caller.tenant, &id, &request.name, &body).await?;
    change.commit().await?;
    Ok(Json(json!({ "ref_value": { "id": id, "version": "1", "name": request.name } })))
}

/// Change reference values. What is sent is looked at as if it were new; what is not stays.
#[utoipa::path(
    put, path = "/ref_value", request_body = ChangedRefValue,
    responses(
        (status = 200, body = Object, description = "`ref_value`: `id`, `name`, `version`"),
        (status = 404, description = "There are no such reference values"),
        (status = 409, description = "The name is taken"),
    )
)]
pub async fn replace(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<ChangedRefValue>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    let before = collection::find::<RefValue>(&service, &caller, &request.id).await?;
    let mut values = before.body.clone();
    let new_name = request.name.unwrap_or_else(|| before.name.clone());
    name("name", &new_name)?;
    if request.description.is_some() {
        values.description = description(request.description)?;
    }
    if let Some(content) = request.content {
        let Signed { files, ima, boot, realms } =
            signed(&service, &caller, values.attester_type, &content).await?;
        values = RefValue { files, ima, boot, realms, jwt: content, ..values };
    }
    let mut change = service.store.change(&caller.name).await?;
    let version = change.replace(&caller.tenant, &before, &new_name, &values).await?;
    change.commit().await?;
    Ok(Json(json!({ "ref_value": { "id": before.id, "version": version.to_string(), "name": new_name } })))
}

impl Collected for RefValue {
    const PLURAL: &'static str = "ref_values";

    fn has_type(&self, name: &str) -> bool {
        self.attester_type.name() == name
    }

    fn full(document: &Document<Self>) -> Value {
        let full = with(Self::brief(document), "description", document.body.description.as_str());
        with(full, "content", document.body.jwt.as_str())
    }

    fn brief(document: &Document<Self>) -> Value {
        json!({
            "id": document.id,
            "name": document.name,
            "attester_type": document.body.attester_type,
            "version": document.version.to_string(),
        })
    }
}
