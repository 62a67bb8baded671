//! How operators who come over TCP prove who they are: by a client certificate whose subject was given roles, or by a
//! token that an administrator's key signed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use service_kit::serve::ClientCertificate;
use verifier::PublicKey;

use super::identity::{Operator, Role};
use crate::environment::Clock;
use crate::names::Name;
use crate::problem::Problem;

/// The audience of admin tokens: an attestation token, or another service's, is none.
pub const AUDIENCE: &str = "attestation-service-admin";

/// Longest time that an admin token may still be valid for, in seconds. It cannot be taken back before it expires.
const MAX_LIFETIME: i64 = 24 * 3600;

/// The key of admin tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminKeyError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{path}: expected a public key on P-256 or P-384 in PEM")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

/// Roles of a client certificate's subject, `ROLE=SUBJECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The subject, as RFC 4514 and our refusals write it: `CN=alice,O=Example,C=CN`.
    pub subject: String,
}

impl std::str::FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, subject) = text.split_once('=').ok_or("expected ROLE=SUBJECT")?;
        let role = Role::parse(role)
            .ok_or_else(|| format!("{role} is no role: reader, policy-admin, resource-admin or admin"))?;
        if subject.is_empty() {
            return Err("the subject is empty".to_owned());
        }
        Ok(Self { role, subject: subject.to_owned() })
    }
}

/// What is asked of operators.
pub struct Credentials {
    roles: HashMap<String, Vec<Role>>,
    key: Option<(Algorithm, DecodingKey)>,
    clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Name,
    roles: Vec<Role>,
    exp: i64,
    #[serde(default)]
    nbf: i64,
}

impl Credentials {
    /// Certificates of these subjects, and tokens signed by the key whose public half is at `key`.
    ///
    /// # Errors
    /// [`AdminKeyError`] names the file.
    pub fn new(grants: &[Grant], key: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, AdminKeyError> {
        let mut roles: HashMap<String, Vec<Role>> = HashMap::new();
        for Grant { role, subject } in grants {
            roles.entry(subject.clone()).or_default().push(*role);
        }
        Ok(Self { roles, key: key.map(load).transpose()?, clock })
    }

    fn operator(
        &self,
        bearer: Option<&str>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Operator, Problem> {
        if let Some(token) = bearer {
            return self.by_token(token);
        }
        let certificate = certificate.ok_or_else(|| {
            Problem::unauthorized(
                "admin_credentials_missing",
                "send a client certificate, or Authorization: Bearer with an admin token",
            )
        })?;
        // A connection may outlive what it was opened with.
        if self.clock.now() >= certificate.not_after {
            return Err(Problem::unauthorized("certificate_expired", "the client certificate has expired"));
        }
        let unknown = |detail| Problem::new(StatusCode::FORBIDDEN, "admin_subject_unknown", detail);
        let subject = certificate
            .subject
            .as_ref()
            .ok_or_else(|| unknown("the client certificate has no subject that is text".to_owned()))?;
        let roles = self.roles.get(subject).ok_or_else(|| {
            unknown(format!("no --admin-role is given to the certificate's subject {subject}"))
        })?;
        Ok(Operator { name: format!("cert:{subject}"), roles: roles.clone() })
    }

    fn by_token(&self, token: &str) -> Result<Operator, Problem> {
        let invalid = |detail: &str| Problem::unauthorized("admin_token_invalid", detail);
        let Some((algorithm, key)) = &self.key else {
            return Err(invalid("this service has no --admin-token-key, so it takes no admin tokens"));
        };
        let mut validation = Validation::new(*algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud", "exp", "sub"]);
        // Compared with the service's clock below, without leeway.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
            .map_err(|_| {
                invalid("the admin token is not signed by the administrators' key, or not for this use")
            })?
            .claims;
        let now = self.clock.now();
        if now < claims.nbf || now >= claims.exp {
            return Err(invalid("the admin token is not valid at this time"));
        }
        if claims.exp.saturating_sub(now) > MAX_LIFETIME {
            return Err(invalid("the admin token is valid for more than 24 hours from now"));
        }
        Ok(Operator { name: format!("jwt:{}", claims.sub), roles: claims.roles })
    }
}

fn load(path: &Path) -> Result<(Algorithm, DecodingKey), AdminKeyError> {
    let pem = std::fs::read_to_string(path)
        .map_err(|source| AdminKeyError::File { path: path.to_owned(), source })?;
    let format = || AdminKeyError::Format { path: path.to_owned() };
    let algorithm = match PublicKey::from_pem(&pem).map_err(|_| format())?.curve() {
        "P-256" => Algorithm::ES256,
        "P-384" => Algorithm::ES384,
        _ => return Err(format()),
    };
    let key = DecodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| format())?;
    Ok((algorithm, key))
}

/// Puts the [`Operator`] into requests that come over TCP, or refuses them.
pub async fn authenticate(
    State(credentials): State<Arc<Credentials>>,
    certificate: Option<Extension<ClientCertificate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let bearer = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default());
    match credentials.operator(bearer, certificate.as_ref().map(|Extension(certificate)| certificate)) {
        Ok(operator) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Err(problem) => {
            tracing::warn!(code = problem.code, "admin request refused");
            problem.into_response()
        }
    }
}
