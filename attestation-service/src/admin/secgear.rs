//! secGear's and Trustee's requests that change something, under the paths and with the answers of the originals.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evidence::hash::Digest;
use serde_json::{Map, Value};
use verifier::{RealmReference, Rules};

use super::identity::Operator;
use super::{Intent, policies, provenance, resource_policies, resources, unprocessable};
use crate::api::{BindingDocument, NewResourceDocument, PolicyDocument, ResourcePolicyDocument};
use crate::extract::RequiredJson;
use crate::names::{Name, NameError, PolicyName, ResourceName};
use crate::problem::Problem;
use crate::public::policies::read_resource_policy;
use crate::secgear::{
    ChangeResource, ChangeResourcePolicy, NewPolicy, NewReferences, PolicyLocation, ReadResource,
    ReadResourcePolicy, ResourceOperation,
};
use crate::service::Service;
use crate::store::references::{NamedReference, StoredReference};
use crate::store::{Change, sha256};

/// secGear's answer to a change of a resource or a resource policy.
const DONE: &str = "successful";
/// Without it one request could register as many values as its body has room for.
const MAX_REFERENCES: usize = 1024;

type Shared = State<Arc<Service>>;

/// What every operator may read.
pub fn reading() -> Router<Arc<Service>> {
    Router::new().route("/policy", get(crate::public::policies::policy))
}

/// What changes appraisal policies and reference values.
pub fn policy() -> Router<Arc<Service>> {
    Router::new().route("/policy", post(set_policy)).route("/reference", post(set_references))
}

/// What changes resources and resource policies. secGear reads them with a body, too, so the readings are here.
pub fn resource() -> Router<Arc<Service>> {
    Router::new()
        .route("/resource/storage", get(list_resources).post(change_resource))
        .route("/resource/policy", get(read_policies).post(change_policies))
        .route("/kbs/v0/resource/{repository}/{kind}/{tag}", post(set_kbs_resource))
}

async fn set_policy(
    state: Shared,
    operator: Operator,
    RequiredJson(new): RequiredJson<NewPolicy>,
) -> Result<&'static str, Problem> {
    let id: Name = new.id.parse().map_err(|error| invalid("id", &error))?;
    if !new.id.ends_with(".rego") {
        return Err(Problem::bad_request("name_invalid", "id: the name of a policy ends in .rego"));
    }
    let rego = URL_SAFE_NO_PAD.decode(&new.policy).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let rego = rego.ok_or_else(|| {
        unprocessable(
            "policy_malformed",
            "policy: expected Rego text in base64url without padding".to_owned(),
        )
    })?;
    let document = PolicyDocument {
        id,
        rego,
        version: 0,
        sha256: String::new(),
        rules: Rules::default(),
        exceptions: Vec::new(),
        added_at: 0,
    };
    policies::replace(state, operator, RequiredJson(document)).await?;
    Ok("set policy success")
}

async fn set_references(
    State(service): Shared,
    operator: Operator,
    RequiredJson(new): RequiredJson<NewReferences>,
) -> Result<&'static str, Problem> {
    let digest = Some(sha256(new.refs.as_bytes()));
    let intent = Intent { operator: &operator, action: "named_reference.set", object: "secgear", digest };
    service
        .change(intent, async |change| {
            let refs: Map<String, Value> = serde_json::from_str(&new.refs).map_err(|_| {
                unprocessable("refs_malformed", "refs: expected a JSON object as a text".to_owned())
            })?;
            if refs.len() > MAX_REFERENCES {
                return Err(unprocessable("too_many_references", format!("refs: at most {MAX_REFERENCES}")));
            }
            for (name, value) in refs {
                add_reference(&service, change, &name, value).await?;
            }
            Ok(())
        })
        .await?;
    Ok("set reference success")
}

async fn add_reference(
    service: &Service,
    change: &mut Change,
    name: &str,
    value: Value,
) -> Result<(), Problem> {
    let name: Name = name.parse().map_err(|error| invalid("refs", &error))?;
    if value.is_null() {
        return Err(unprocessable("value_invalid", format!("refs: {name}: null cannot be expected")));
    }
    if ["itrustee_", "virtcca_ima_"].iter().any(|prefix| name.as_str().starts_with(prefix)) {
        return Err(unprocessable(
            "reference_unsupported",
            format!(
                "refs: {name}: lists of digests are not kept under names here; register them with the guest's reference"
            ),
        ));
    }
    let rim = initial_measurement(&name, &value);
    let provenance = provenance(service, "secGear: POST /reference".to_owned())?;
    if let Some(rim) = rim {
        // A guest is appraised only if a reference has its initial measurement; this one expects nothing else.
        let reference = RealmReference {
            name: format!("secgear-{}", rim.to_string().chars().take(48).collect::<String>()),
            rim,
            rpv: None,
            rems: [None; 4],
            logs: None,
            provenance: provenance.clone(),
        };
        change.delete_reference(&reference.name).await?;
        change.add_reference(&StoredReference { reference, expires_at: None }).await?;
    }
    let named = NamedReference { name: name.into(), value, provenance, expires_at: None };
    Ok(change.set_named_reference(&named).await?)
}

fn initial_measurement(name: &Name, value: &Value) -> Option<Digest> {
    matches!(name.as_str(), "vcca.cvm.rim" | "cca.realm.rim").then(|| value.as_str()?.parse().ok()).flatten()
}

async fn list_resources(
    State(service): Shared,
    RequiredJson(wanted): RequiredJson<ReadResource>,
) -> Result<axum::Json<Vec<String>>, Problem> {
    let ReadResource::VendorGet { vendor } = wanted else {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "public_plane_only",
            "the content of a resource is released to attested guests only, on the public listener",
        ));
    };
    let entries = service.store.resources().await?;
    let names = entries.iter().filter(|entry| entry.name.vendor.as_str() == vendor);
    Ok(axum::Json(names.map(|entry| entry.name.to_string()).collect()))
}

async fn change_resource(
    state: Shared,
    operator: Operator,
    RequiredJson(ChangeResource { op, resource }): RequiredJson<ChangeResource>,
) -> Result<&'static str, Problem> {
    let name = ResourceName::new(resource.vendor.as_deref(), &resource.path)
        .map_err(|error| invalid("resource", &error))?;
    let document = |content: String, policies| NewResourceDocument {
        name: name.to_string(),
        content: STANDARD.encode(content),
        policies,
    };
    match op {
        ResourceOperation::Add { content, policy } => {
            let new = document(content, policy_names(&policy)?);
            resources::add(state, operator, RequiredJson(new)).await?;
        }
        ResourceOperation::Modify { content } => {
            resources::replace(state, operator, RequiredJson(document(content, Vec::new()))).await?;
        }
        ResourceOperation::Delete => {
            let path = (name.vendor.to_string(), name.path().to_owned());
            resources::remove(state, operator, Path(path)).await?;
        }
        ResourceOperation::Bind { policy } => {
            for policy in policy_names(&policy)? {
                let binding = BindingDocument { resource: name.to_string(), policy };
                resources::bind(state.clone(), operator.clone(), RequiredJson(binding)).await?;
            }
        }
        ResourceOperation::Unbind { policy } => {
            for policy in policy_names(&policy)? {
                let binding = BindingDocument { resource: name.to_string(), policy };
                resources::unbind(state.clone(), operator.clone(), RequiredJson(binding)).await?;
            }
        }
    }
    Ok(DONE)
}

/// All of them, or none: a policy that is skipped is a resource that is released to more guests.
fn policy_names(names: &[String]) -> Result<Vec<PolicyName>, Problem> {
    names.iter().map(|name| name.parse().map_err(|error| invalid("policy", &error))).collect()
}

async fn read_policies(
    State(service): Shared,
    RequiredJson(wanted): RequiredJson<ReadResourcePolicy>,
) -> Result<Response, Problem> {
    read_resource_policy(&service, wanted).await
}

async fn change_policies(
    state: Shared,
    operator: Operator,
    RequiredJson(change): RequiredJson<ChangeResourcePolicy>,
) -> Result<&'static str, Problem> {
    match change {
        ChangeResourcePolicy::Add { policy, content } => {
            let document = ResourcePolicyDocument {
                name: policy_name(&policy)?,
                rego: content,
                version: 0,
                sha256: String::new(),
                added_at: 0,
            };
            resource_policies::set(state, operator, RequiredJson(document)).await?;
        }
        ChangeResourcePolicy::Delete { policy } => {
            let name = policy_name(&policy)?;
            let path = (name.vendor().to_owned(), name.id());
            resource_policies::remove(state, operator, Path(path)).await?;
        }
        ChangeResourcePolicy::ClearAll { vendor } => clear(&state, &operator, &vendor).await?,
    }
    Ok(DONE)
}

async fn clear(service: &Service, operator: &Operator, vendor: &str) -> Result<(), Problem> {
    // The grammar of a vendor is that of its policies.
    PolicyName::new(Some(vendor), "all.rego").map_err(|error| invalid("vendor", &error))?;
    let intent = Intent { operator, action: "resource_policy.clear", object: vendor, digest: None };
    service
        .change(intent, async |change| {
            change.delete_resource_policies_of(vendor).await?;
            Ok(())
        })
        .await
}

fn policy_name(location: &PolicyLocation) -> Result<PolicyName, Problem> {
    PolicyName::new(location.vendor.as_deref(), &location.id).map_err(|error| invalid("policy", &error))
}

/// Trustee's: the body is the content. A new resource has no policy, so it is released once one is bound.
async fn set_kbs_resource(
    state: Shared,
    operator: Operator,
    Path((repository, kind, tag)): Path<(String, String, String)>,
    content: Bytes,
) -> Result<StatusCode, Problem> {
    let name = ResourceName::new(Some(&repository), &format!("{kind}/{tag}"))
        .map_err(|error| invalid("path", &error))?;
    let document = NewResourceDocument {
        name: name.to_string(),
        content: STANDARD.encode(&content),
        policies: Vec::new(),
    };
    resources::replace(state, operator, RequiredJson(document)).await?;
    Ok(StatusCode::OK)
}

/// T11: a name that is none was never stored.
fn invalid(member: &str, error: &NameError) -> Problem {
    Problem::bad_request("name_invalid", format!("{member}: {error}"))
}
