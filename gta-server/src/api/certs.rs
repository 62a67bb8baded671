//! `/cert`: certificates of authorities and signers, and revocation lists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::extract::RequiredJson;
use service_kit::problem::Problem;
use utoipa::ToSchema;
use verifier::chain::{Signer, TrustBundle, describe, describe_revocation_lists};

use super::collection::{self, Collected, Deletion, Query};
use super::{description, name, room};
use crate::auth::Caller;
use crate::model::{CertType, Certificate, Crl};
use crate::service::{Service, Shared};
use crate::store::Document;

/// Longest certificate or list, in bytes.
const MAX_CONTENT: usize = 1 << 20;

/// A certificate of a signer, those of an authority, or a revocation list.
#[derive(Deserialize, ToSchema)]
pub struct NewCertificate {
    name: String,
    description: Option<String>,
    /// What it is good for: `refvalue`, `policy`, `tpm_boot`, `tpm_ima`, `tpm_ek`, `virt_cca`; or `crl`.
    #[serde(rename = "type")]
    kinds: Vec<String>,
    /// Certificates in PEM.
    content: Option<String>,
    /// The revocation list in PEM.
    crl_content: Option<String>,
}

/// What is to be other of a certificate.
#[derive(Deserialize, ToSchema)]
pub struct ChangedCertificate {
    id: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(rename = "type")]
    kinds: Option<Vec<String>>,
    content: Option<String>,
    crl_content: Option<String>,
}

/// List certificates; `cert_type=crl` lists revocation lists.
#[utoipa::path(
    get, path = "/cert", params(Query),
    responses((status = 200, body = Object, description = "`certs` or `crls`, and `next_cursor` if there are more"))
)]
pub async fn list(
    State(service): State<Shared>,
    caller: Caller,
    query: Result<axum::extract::Query<Query>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let query = collection::query(query)?;
    if query.attester_type.as_deref() == Some("crl") {
        return collection::list::<Crl>(&service, &caller, query).await;
    }
    collection::list::<Certificate>(&service, &caller, query).await
}

/// Delete certificates, all or nothing; those of the type `crl` are revocation lists.
#[utoipa::path(
    delete, path = "/cert", request_body = Deletion,
    responses(
        (status = 200, description = "They are gone"),
        (status = 404, description = "There is nothing with one of these ids"),
    )
)]
pub async fn remove(
    state: State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<Deletion>,
) -> Result<StatusCode, Problem> {
    if request.is_of_type("crl") {
        return collection::remove::<Crl>(state, caller, request).await;
    }
    collection::remove::<Certificate>(state, caller, request).await
}

/// Add a certificate, or a revocation list.
#[utoipa::path(
    post, path = "/cert", request_body = NewCertificate,
    responses(
        (
            status = 200, body = Object,
            description = "`cert`: `cert_id`, `cert_name`, `version`; or `crl`: `crl_id`, `crl_name`"
        ),
        (status = 409, description = "The name is taken, or there are as many as there may be"),
    )
)]
pub async fn add(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<NewCertificate>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    name("name", &request.name)?;
    if request.kinds.iter().any(|kind| kind == "crl") {
        return add_crl(&service, &caller, request).await;
    }
    let content = bounded(request.content, "content")?;
    let kinds = kinds(&request.kinds)?;
    check(&service, &request.name, &kinds, &content)?;
    let present = service.store.count::<Certificate>(&caller.tenant).await?;
    room("certificates", present, service.settings.max_certificates)?;
    let certificate = Certificate {
        description: description(request.description)?,
        kinds,
        pem: content,
        create_time: service.now().saturating_mul(1000),
    };
    let id = service.new_id()?;
    let mut change = service.store.change(&caller.name).await?;
    change.add(&caller.tenant, &id, &request.name, &certificate).await?;
    change.commit().await?;
    Ok(Json(json!({ "cert": { "cert_id": id, "cert_name": request.name, "version": 1 } })))
}

/// Change what is said of a certificate, and what it is good for. Its content stays: another certificate is another
/// document.
#[utoipa::path(
    put, path = "/cert", request_body = ChangedCertificate,
    responses(
        (status = 200, body = Object, description = "`cert`: `cert_id`, `cert_name`, `version`"),
        (status = 404, description = "There is no such certificate"),
        (status = 409, description = "The name is taken"),
    )
)]
pub async fn replace(
    State(service): State<Shared>,
    caller: Caller,
    RequiredJson(request): RequiredJson<ChangedCertificate>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[])?;
    if request.content.is_some() || request.crl_content.is_some() {
        return Err(Problem::bad_request(
            "content_fixed",
            "the content of a certificate cannot be changed: add another",
        ));
    }
    let before = collection::find::<Certificate>(&service, &caller, &request.id).await?;
    let mut certificate = before.body.clone();
    let new_name = request.name.unwrap_or_else(|| before.name.clone());
    name("name", &new_name)?;
    if request.description.is_some() {
        certificate.description = description(request.description)?;
    }
    if let Some(sent) = request.kinds {
        certificate.kinds = kinds(&sent)?;
        check(&service, &new_name, &certificate.kinds, &certificate.pem)?;
    }
    let mut change = service.store.change(&caller.name).await?;
    let version = change.replace(&caller.tenant, &before, &new_name, &certificate).await?;
    change.commit().await?;
    Ok(Json(json!({ "cert": { "cert_id": before.id, "cert_name": new_name, "version": version } })))
}

fn kinds(sent: &[String]) -> Result<Vec<CertType>, Problem> {
    let kinds: Option<Vec<CertType>> =
        sent.iter().map(|kind| serde_json::from_value(Value::from(kind.as_str())).ok()).collect();
    kinds.filter(|kinds| !kinds.is_empty()).ok_or_else(|| {
        Problem::bad_request(
            "cert_type_unknown",
            "type is a list of refvalue, policy, tpm_boot, tpm_ima, tpm_ek, tpm_iak, virt_cca, or crl",
        )
    })
}

/// Whether a certificate can be what it is registered as.
fn check(service: &Service, name: &str, kinds: &[CertType], content: &str) -> Result<(), Problem> {
    let invalid = |error: &dyn std::error::Error| Problem::bad_request("cert_invalid", error.to_string());
    if !kinds.iter().all(is_authority) {
        let signer = Signer::new(content.as_bytes()).map_err(|error| invalid(&error))?;
        if service.now() > signer.not_after {
            return Err(Problem::bad_request("cert_expired", "the certificate has expired"));
        }
    }
    if kinds.iter().any(is_authority) {
        let bundle = TrustBundle::new([(name, content.as_bytes())], []).map_err(|error| invalid(&error))?;
        if bundle.revocation_lists() > 0 || bundle.authorities().is_empty() {
            return Err(Problem::bad_request(
                "cert_invalid",
                "content must be certificates of authorities in PEM",
            ));
        }
        if bundle.authorities().iter().any(|authority| service.now() > authority.not_after) {
            return Err(Problem::bad_request("cert_expired", "a certificate has expired"));
        }
    }
    Ok(())
}

/// A list is believed only if one of the tenant's authorities has signed it; otherwise it would be heeded by nobody.
async fn add_crl(
    service: &Service,
    caller: &Caller,
    request: NewCertificate,
) -> Result<Json<Value>, Problem> {
    let pem = bounded(request.crl_content, "crl_content")?;
    let invalid = |reason: String| Problem::bad_request("crl_invalid", reason);
    let certificates = service.store.list::<Certificate>(&caller.tenant).await?;
    let authorities =
        certificates.iter().filter(|certificate| certificate.body.kinds.iter().any(is_authority));
    let files = authorities.map(|certificate| (certificate.name.as_str(), certificate.body.pem.as_bytes()));
    let bundle = TrustBundle::new(files.chain([("crl_content", pem.as_bytes())]), [])
        .map_err(|error| invalid(error.to_string()))?;
    bundle.check_revocation_lists(service.now()).map_err(|error| invalid(error.to_string()))?;
    let present = service.store.count::<Crl>(&caller.tenant).await?;
    room("revocation lists", present, service.settings.max_certificates)?;
    let id = service.new_id()?;
    let mut change = service.store.change(&caller.name).await?;
    change.add(&caller.tenant, &id, &request.name, &Crl { pem }).await?;
    change.commit().await?;
    Ok(Json(json!({ "crl": { "crl_id": id, "crl_name": request.name } })))
}

fn bounded(content: Option<String>, field: &str) -> Result<String, Problem> {
    content.filter(|content| (1..=MAX_CONTENT).contains(&content.len())).ok_or_else(|| {
        Problem::bad_request("cert_invalid", format!("{field} must be PEM of at most {MAX_CONTENT} bytes"))
    })
}

const fn is_authority(kind: &CertType) -> bool {
    !matches!(kind, CertType::Refvalue | CertType::Policy)
}

/// The authorities of a tenant for a purpose, with all its revocation lists.
pub async fn authorities(
    service: &Service,
    tenant: &str,
    kind: CertType,
) -> Result<Arc<TrustBundle>, Problem> {
    let certificates = service.revision::<Certificate>(tenant).await?;
    let revision = (certificates, service.revision::<Crl>(tenant).await?);
    let read = async || read_authorities(service, tenant, kind).await;
    service.known.authorities.get((tenant.to_owned(), kind), revision, read).await
}

async fn read_authorities(service: &Service, tenant: &str, kind: CertType) -> Result<TrustBundle, Problem> {
    let certificates = service.store.list::<Certificate>(tenant).await?;
    let lists = service.store.list::<Crl>(tenant).await?;
    let certificates = certificates.iter().filter(|certificate| certificate.body.kinds.contains(&kind));
    let files = certificates.map(|certificate| (certificate.name.as_str(), certificate.body.pem.as_bytes()));
    let lists = lists.iter().map(|list| (list.name.as_str(), list.body.pem.as_bytes()));
    TrustBundle::new(files.chain(lists), []).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "authorities");
        Problem::unavailable("authorities_unusable", "the registered certificates cannot be used")
    })
}

/// Whose signatures of reference values or policies a tenant believes.
pub async fn signers(service: &Service, tenant: &str, kind: CertType) -> Result<Vec<Signer>, Problem> {
    let certificates = service.store.list::<Certificate>(tenant).await?;
    let certificates = certificates.iter().filter(|certificate| certificate.body.kinds.contains(&kind));
    Ok(certificates.filter_map(|certificate| Signer::new(certificate.body.pem.as_bytes()).ok()).collect())
}

impl Collected for Certificate {
    const PLURAL: &'static str = "certs";

    fn has_type(&self, name: &str) -> bool {
        self.kinds.iter().any(|kind| json!(kind) == name)
    }

    fn full(document: &Document<Self>) -> Value {
        let Certificate { description, kinds, pem, create_time } = &document.body;
        json!({
            "cert_id": document.id,
            "cert_name": document.name,
            "description": description,
            "content": pem,
            "cert_type": kinds,
            "version": document.version,
            "create_time": create_time,
            "valid_code": 0,
            "certificates": describe(pem.as_bytes()),
        })
    }

    fn brief(document: &Document<Self>) -> Value {
        json!({
            "cert_id": document.id,
            "cert_name": document.name,
            "cert_type": document.body.kinds,
            "version": document.version,
        })
    }
}

impl Collected for Crl {
    const PLURAL: &'static str = "crls";

    fn has_type(&self, name: &str) -> bool {
        name == "crl"
    }

    fn full(document: &Document<Self>) -> Value {
        let pem = &document.body.pem;
        json!({
            "crl_id": document.id,
            "crl_name": document.name,
            "crl_content": pem,
            "revocation_lists": describe_revocation_lists(pem.as_bytes()),
        })
    }

    fn brief(document: &Document<Self>) -> Value {
        Self::full(document)
    }
}
