//! `/ref_value`: files and virtCCA machines that are known, signed by a signer of the tenant.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use verifier::logs::{FileReference, ImaReferences, RuntimePolicy, RuntimePolicyError};
use verifier::{Provenance, RealmReference};

use super::collection::{self, Collected, handlers};
use super::{description, name, room};
use crate::appraise::signed;
use crate::auth::Caller;
use crate::json::with;
use crate::model::{AttesterType, CertType, KnownFile, KnownRealm, RefValue};
use crate::service::{Service, Shared};
use crate::store::Document;

/// Longest path, in bytes (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Most patterns of paths that a set may exclude.
const MAX_EXCLUDED: usize = 256;
/// Most keys of signers of files in a set.
const MAX_SIGNERS: usize = 32;

handlers!(RefValue);

#[derive(Deserialize)]
pub struct NewRefValue {
    name: String,
    description: Option<String>,
    attester_type: AttesterType,
    content: String,
}

#[derive(Deserialize)]
pub struct ChangedRefValue {
    id: String,
    name: Option<String>,
    description: Option<String>,
    content: Option<String>,
}

/// What signers sign.
#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "referenceValues", default)]
    files: Vec<KnownFile>,
    ima: Option<ImaReferences>,
    /// Of keylime.
    #[serde(rename = "runtimePolicy")]
    runtime_policy: Option<RuntimePolicy>,
    #[serde(default)]
    realms: Vec<KnownRealm>,
}

/// What was signed, in the form in which it is kept.
struct Signed {
    files: Vec<KnownFile>,
    ima: Option<ImaReferences>,
    realms: Vec<KnownRealm>,
}

/// Adds reference values.
pub async fn add(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<NewRefValue>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    name("name", &request.name)?;
    let Signed { files, ima, realms } =
        signed(&service, &caller, request.attester_type, &request.content).await?;
    let present = service.store.count::<RefValue>(&caller.tenant).await?;
    room("sets of reference values", present, service.settings.max_ref_values)?;
    let body = RefValue {
        description: description(request.description)?,
        attester_type: request.attester_type,
        jwt: request.content,
        files,
        ima,
        realms,
    };
    let id = service.new_id()?;
    let mut change = service.store.change(&caller.name).await?;
    change.add(&caller.tenant, &id, &request.name, &body).await?;
    change.commit().await?;
    Ok(Json(json!({ "ref_value": { "id": id, "version": "1", "name": request.name } })))
}

/// Changes reference values. What is sent is looked at as if it were new; what is not stays.
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
        let Signed { files, ima, realms } = signed(&service, &caller, values.attester_type, &content).await?;
        (values.files, values.ima, values.realms, values.jwt) = (files, ima, realms, content);
    }
    let mut change = service.store.change(&caller.name).await?;
    let version = change.replace(&caller.tenant, &before, &new_name, &values).await?;
    change.commit().await?;
    Ok(Json(json!({ "ref_value": { "id": before.id, "version": version.to_string(), "name": new_name } })))
}

/// What a JWT says that a signer of the tenant has signed, about attesters of the type `kind`.
async fn signed(
    service: &Service,
    caller: &Caller,
    kind: AttesterType,
    jwt: &str,
) -> Result<Signed, Problem> {
    let expected = match kind {
        AttesterType::TpmIma => "referenceValues, ima or runtimePolicy",
        AttesterType::VirtCca => "realms, and perhaps referenceValues, ima or runtimePolicy for their files",
        AttesterType::TpmBoot => {
            return Err(Problem::bad_request(
                "attester_type_unknown",
                "reference values are for tpm_ima or virt_cca",
            ));
        }
    };
    let signers = super::certs::signers(service, &caller.tenant, CertType::Refvalue).await?;
    let payload: Payload = signed::open(jwt, &signers, service.now())
        .map_err(|error| Problem::bad_request("signature_invalid", error.to_string()))?;
    payload.files.iter().try_for_each(check)?;
    payload.realms.iter().try_for_each(check_realm)?;
    let mut ima = payload.ima.unwrap_or_default();
    if let Some(policy) = payload.runtime_policy {
        let read: ImaReferences = policy.try_into().map_err(|error| {
            Problem::bad_request("ref_value_invalid", RuntimePolicyError::to_string(&error))
        })?;
        ima.extend(&read);
    }
    check_ima(&ima)?;
    let ima = Some(ima).filter(|ima| !ima.is_empty());
    let signed = Signed { files: payload.files, ima, realms: payload.realms };
    let fits = match kind {
        AttesterType::VirtCca => !signed.realms.is_empty(),
        _ => (!signed.files.is_empty() || signed.ima.is_some()) && signed.realms.is_empty(),
    };
    if !fits {
        return Err(Problem::bad_request(
            "ref_value_invalid",
            format!("the payload of reference values for {kind} has {expected}"),
        ));
    }
    Ok(signed)
}

fn check_realm(realm: &KnownRealm) -> Result<(), Problem> {
    name("the name of a realm", &realm.name)?;
    match &realm.rpv {
        Some(rpv) if rpv.0.len() != 64 => Err(Problem::bad_request(
            "ref_value_invalid",
            format!("realm {}: rpv has {} bytes, expected 64 in hexadecimal", realm.name, rpv.0.len()),
        )),
        _ => Ok(()),
    }
}

/// Each of these is looked at for each entry that is not known otherwise.
fn check_ima(ima: &ImaReferences) -> Result<(), Problem> {
    for (member, found, most) in [
        ("exclude", ima.exclude.len(), MAX_EXCLUDED),
        ("signers", ima.signers.len(), MAX_SIGNERS),
        ("ignored_buffers", ima.ignored_buffers.len(), MAX_EXCLUDED),
    ] {
        if found > most {
            return Err(Problem::bad_request(
                "ref_value_invalid",
                format!("{member} has {found} members, expected at most {most}"),
            ));
        }
    }
    Ok(())
}

fn check(file: &KnownFile) -> Result<(), Problem> {
    let path = (1..=MAX_PATH).contains(&file.path.len()) && !file.path.contains('\0');
    if path && reference(file).is_some() {
        return Ok(());
    }
    let shown: String = file.path.chars().take(200).collect();
    Err(Problem::bad_request(
        "ref_value_invalid",
        format!(
            "{shown:?}: expected fileName with at most {MAX_PATH} bytes, and sha256 with 64 hexadecimal digits"
        ),
    ))
}

fn reference(file: &KnownFile) -> Option<FileReference> {
    format!("sha256:{}", file.sha256).parse().ok()
}

/// The files that a tenant knows; `None` if it has registered none.
pub async fn files(service: &Service, tenant: &str) -> Result<Arc<Option<ImaReferences>>, Problem> {
    let revision = service.revision::<RefValue>(tenant).await?;
    service.known.files.get(tenant.to_owned(), revision, async || read_files(service, tenant).await).await
}

async fn read_files(service: &Service, tenant: &str) -> Result<Option<ImaReferences>, Problem> {
    let mut sets = service.store.list::<RefValue>(tenant).await?;
    sets.retain(|set| set.body.attester_type == AttesterType::TpmIma);
    if sets.is_empty() {
        return Ok(None);
    }
    Ok(Some(references(sets.iter().map(|set| &set.body))))
}

/// What the sets together say of files.
fn references<'a>(sets: impl IntoIterator<Item = &'a RefValue>) -> ImaReferences {
    let mut all = ImaReferences::default();
    for set in sets {
        for file in &set.files {
            // All were checked when they were registered.
            if let Some(reference) = reference(file) {
                all.files.insert(&file.path, &reference);
            }
        }
        if let Some(ima) = &set.ima {
            all.extend(ima);
        }
    }
    all
}

/// The virtCCA machines that a tenant knows.
pub async fn realms(service: &Service, tenant: &str) -> Result<Arc<Vec<RealmReference>>, Problem> {
    let revision = service.revision::<RefValue>(tenant).await?;
    let read = async || read_realms(service, tenant).await;
    service.known.realms.get(tenant.to_owned(), revision, read).await
}

async fn read_realms(service: &Service, tenant: &str) -> Result<Vec<RealmReference>, Problem> {
    let mut realms = Vec::new();
    for set in service.store.list::<RefValue>(tenant).await? {
        // The files of a set may be used in each of its machines that has no list of its own.
        let files = Some(references([&set.body])).filter(|files| !files.is_empty());
        for realm in set.body.realms {
            let mut logs = realm.logs.unwrap_or_default();
            logs.ima = logs.ima.or_else(|| files.clone());
            realms.push(RealmReference {
                name: realm.name,
                rim: realm.rim,
                // Of this length it was registered.
                rpv: realm.rpv.map(|rpv| rpv.0.try_into()).transpose().map_err(|_| unusable())?,
                rems: realm.rems,
                logs: Some(Arc::new(logs)),
                provenance: Provenance { source: format!("ref_value {}", set.name), added_at: 0 },
            });
        }
    }
    Ok(realms)
}

fn unusable() -> Problem {
    Problem::unavailable("ref_values_unusable", "the registered reference values cannot be used")
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
