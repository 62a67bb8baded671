//! `import-secgear`: takes over what secGear's attestation service keeps under `/etc/attestation/attestation-service`.
//!
//! Everything goes through the admin plane, so that what an operator could not register is not imported either, and is in
//! the audit log. Reference values that secGear keeps in a sled database are read from an export of it.

mod files;
mod references;
mod report;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use self::files::{Entry, certificates, files_below};
pub use self::report::{Item, Outcome, Report};
use crate::admin;
use crate::admin::identity::Operator;
use crate::problem::ProblemDocument;
use crate::service::Service;

/// Longest answer of the admin plane that is read; problem documents have some hundred bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Imports what is below `directory` by order of `operator`.
///
/// # Errors
/// If `directory` cannot be read; what is wrong with single files is in the report.
pub async fn secgear(
    service: &Arc<Service>,
    operator: Operator,
    directory: &Path,
) -> std::io::Result<Report> {
    std::fs::read_dir(directory)?;
    let router = admin::router(Arc::clone(service));
    let mut import = Import { router, operator, report: Report::default() };
    import.policies(&directory.join("policy")).await;
    import.resource_policies(&directory.join("resource/policy")).await;
    import.resources(&directory.join("resource/storage")).await;
    import.certificates(&directory.join("verifier/virtcca")).await;
    import.references(directory).await;
    import.left_behind(directory);
    Ok(import.report)
}

struct Import {
    router: Router,
    operator: Operator,
    report: Report,
}

impl Import {
    async fn policies(&mut self, directory: &Path) {
        for entry in files_below(directory, 1) {
            let name = entry.name.clone();
            let body = entry.text().map(|rego| json!({ "id": name, "rego": rego }));
            self.register("policy", &entry, Method::PUT, "/policies", body, None).await;
        }
    }

    async fn resource_policies(&mut self, directory: &Path) {
        for entry in files_below(directory, 2) {
            let name = entry.name.clone();
            let body = entry.text().map(|rego| json!({ "name": name, "rego": rego }));
            self.register("resource policy", &entry, Method::POST, "/resource-policies", body, None).await;
        }
    }

    async fn resources(&mut self, directory: &Path) {
        for entry in files_below(directory, 8) {
            let document = entry.text().and_then(|text| files::resource(&entry.name, &text));
            let note = match &document {
                Ok(document) if document["policies"].as_array().is_some_and(Vec::is_empty) => Some(
                    "no policy is bound to it, so it is released to nobody; secGear gave it to every virtCCA guest",
                ),
                _ => None,
            };
            self.register("resource", &entry, Method::POST, "/resources", document, note).await;
        }
    }

    async fn certificates(&mut self, directory: &Path) {
        for entry in certificates(directory) {
            let name = files::bundle_name(&entry.name);
            let body = entry
                .text()
                .map(|pem| json!({ "name": name, "pem": pem, "source": format!("secGear: {}", entry.name) }));
            self.register("trust bundle", &entry, Method::POST, "/trust-bundles", body, None).await;
        }
    }

    /// Sends a document to the admin plane and reports what came of it.
    async fn register(
        &mut self,
        kind: &'static str,
        entry: &Entry,
        method: Method,
        path: &str,
        body: Result<Value, String>,
        note: Option<&str>,
    ) {
        let outcome = match body {
            Ok(body) => self.send(method, path, &body).await,
            Err(reason) => Err(reason),
        };
        let name = entry.name.clone();
        self.report.add(kind, name, outcome.map(|()| note.unwrap_or_default().to_owned()));
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<(), String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .extension(self.operator.clone())
            .body(Body::from(body.to_string()))
            .map_err(|error| error.to_string())?;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let answer = to_bytes(response.into_body(), MAX_ANSWER).await.unwrap_or_default();
        let problem = serde_json::from_slice::<ProblemDocument>(&answer);
        Err(problem
            .map_or_else(|_| status.to_string(), |problem| format!("{}: {}", problem.code, problem.detail)))
    }

    /// What is there and is not taken over, so that nobody believes that it was.
    fn left_behind(&mut self, directory: &Path) {
        for (file, reason) in [
            (
                "token/private.pem",
                "token keys are made and rotated by this service; relying parties read the JWKS",
            ),
            ("token/as_cert.pem", "relying parties read the JWKS at /.well-known/jwks.json instead"),
            ("verifier/itrustee", "iTrustee is not appraised by this service"),
        ] {
            if directory.join(file).exists() {
                self.report.skip("file", file.to_owned(), reason);
            }
        }
    }
}
