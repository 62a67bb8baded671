//! `/trust-bundles` and `/crls`: authorities that certify devices, and what they have revoked.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use verifier::chain::TrustBundle;

use super::identity::Operator;
use super::{Intent, documents, provenance, stored_name, unprocessable};
use crate::api::{CrlDocument, TrustBundleDocument};
use crate::extract::RequiredJson;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::bundles::{Crl, StoredBundle};
use crate::store::sha256;

pub async fn list(State(service): State<Arc<Service>>) -> Result<Json<Vec<TrustBundleDocument>>, Problem> {
    documents(service.store.bundles().await?, |bundle: StoredBundle| {
        Ok(TrustBundleDocument {
            name: stored_name(bundle.name)?,
            pem: bundle.pem,
            source: bundle.provenance.source,
            added_at: bundle.provenance.added_at,
        })
    })
}

pub async fn add(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<TrustBundleDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let digest = Some(sha256(document.pem.as_bytes()));
    let intent = Intent { operator: &operator, action: "trust_bundle.add", object: &object, digest };
    service
        .change(intent, async |change| {
            if CertificateDer::pem_slice_iter(document.pem.as_bytes()).next().is_none() {
                return Err(unprocessable("bundle_invalid", "pem: expected certificates in PEM".to_owned()));
            }
            usable(&object, document.pem.as_bytes())?;
            super::no_nul("pem", &document.pem)?;
            let bundle = StoredBundle {
                name: document.name.into(),
                pem: document.pem,
                provenance: provenance(&service, document.source)?,
            };
            Ok(change.add_bundle(&bundle).await?)
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
        .remove(&operator, "trust_bundle.delete", "trust bundle", &name, async |change, name| {
            change.delete_bundle(name).await
        })
        .await
}

pub async fn list_crls(State(service): State<Arc<Service>>) -> Result<Json<Vec<CrlDocument>>, Problem> {
    documents(service.store.crls().await?, |crl: Crl| {
        Ok(CrlDocument {
            name: stored_name(crl.name)?,
            pem: None,
            sha256: Some(hex::encode(sha256(&crl.der))),
            source: crl.provenance.source,
            added_at: crl.provenance.added_at,
        })
    })
}

pub async fn set_crl(
    State(service): State<Arc<Service>>,
    operator: Operator,
    RequiredJson(document): RequiredJson<CrlDocument>,
) -> Result<StatusCode, Problem> {
    let object = document.name.to_string();
    let pem = document.pem.unwrap_or_default();
    let intent = Intent {
        operator: &operator,
        action: "crl.set",
        object: &object,
        digest: Some(sha256(pem.as_bytes())),
    };
    service
        .change(intent, async |change| {
            let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
                unprocessable("crl_invalid", "pem: expected a certificate revocation list in PEM".to_owned())
            })?;
            usable(&object, &der)?;
            let crl = Crl {
                name: document.name.into(),
                der: der.to_vec(),
                provenance: provenance(&service, document.source)?,
            };
            Ok(change.set_crl(&crl).await?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn remove_crl(
    State(service): State<Arc<Service>>,
    operator: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    service
        .remove(&operator, "crl.delete", "revocation list", &name, async |change, name| {
            change.delete_crl(name).await
        })
        .await
}

/// The verifier takes it.
fn usable(name: &str, content: &[u8]) -> Result<(), Problem> {
    TrustBundle::new([(name, content)], [])
        .map(drop)
        .map_err(|error| unprocessable("bundle_invalid", error.to_string()))
}
