//! Who asks: whom an API key, the token of an issuer or a client certificate shows to belong to a tenant. The header `User-Id` says which
//! tenant that is to be, and nothing by itself.

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use rand::distr::{Alphanumeric, SampleString as _};
use service_kit::environment::Environment;
use service_kit::extract::bearer;
use service_kit::oidc::LoginError;
use service_kit::problem::Problem;
use service_kit::serve::ClientCertificate;
use subtle::ConstantTimeEq as _;

use crate::identity::Proved;
use crate::model::{ApiKey, Role};
use crate::service::{Service, Shared};
use crate::store::{Change, Document, StoreError};

/// Characters of a key, the first of which name it.
const KEY_LEN: usize = 32;
const ID_LEN: usize = 8;
/// Longest name of a tenant.
pub const MAX_TENANT: usize = 36;

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant.
    pub tenant: String,
    /// What they may do.
    pub role: Role,
    /// How the journal names them.
    pub name: String,
    /// What decides, and if the connection has a certificate besides, what that is.
    credentials: Vec<Credential>,
}

/// What a caller is believed by.
#[derive(Clone, Debug)]
enum Credential {
    /// The API key of this id.
    Key(String),
    /// An identity.
    Identity {
        id: String,
        role: Role,
        /// When what has shown it expires, seconds since the Unix epoch.
        until: i64,
    },
}

impl Caller {
    /// Lets the caller on if they have one of the roles. An administrator has all.
    ///
    /// # Errors
    /// 403 `role_missing`.
    pub fn must_be(&self, roles: &[Role]) -> Result<(), Problem> {
        if self.role == Role::Admin || roles.contains(&self.role) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "role_missing",
            "your role does not allow that (GET /whoami tells which one it is)",
        ))
    }
}

/// Whether a tenant can be called this.
#[must_use]
pub fn is_tenant(name: &str) -> bool {
    (1..=MAX_TENANT).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Shared) -> Result<Self, Problem> {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let tenant = header("User-Id").filter(|tenant| is_tenant(tenant)).ok_or_else(|| {
            Problem::bad_request("user_id_invalid", "User-Id header is required and must be 1-36 characters")
        })?;
        if parts.headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return Err(ambiguous());
        }
        let certificate = parts.extensions.get::<ClientCertificate>();
        let mut caller = match (parts.headers.get("API-Key"), bearer(&parts.headers), certificate) {
            (Some(_), Some(_), _) => return Err(ambiguous()),
            (None, Some(token), _) => service.by_token(tenant, token).await?,
            (None, None, Some(certificate)) => return service.by_certificate(tenant, certificate).await,
            _ => service.by_key(tenant, header("API-Key").unwrap_or_default()).await?,
        };
        if let Some(certificate) = certificate {
            let Caller { credentials, .. } = service.beside(tenant, certificate).await?;
            caller.credentials.extend(credentials);
        }
        Ok(caller)
    }
}

fn ambiguous() -> Problem {
    Problem::bad_request(
        "credentials_ambiguous",
        "send either API-Key or one Authorization: Bearer with a token, not both",
    )
}

impl Service {
    /// Who has an API key of the tenant.
    async fn by_key(&self, tenant: &str, key: &str) -> Result<Caller, Problem> {
        let well_formed = key.len() == KEY_LEN && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id = key.get(..ID_LEN).filter(|_| well_formed).ok_or_else(|| {
            Problem::bad_request("api_key_invalid", "Validation error: API-Key is 32 letters and digits")
        })?;
        let invalid = || Problem::unauthorized("api_key_unknown", "Invalid API key");
        let stored = self.api_key(tenant, id).await?.ok_or_else(invalid)?;
        if !bool::from(stored.body.digest.as_bytes().ct_eq(key_digest(key).as_bytes())) {
            return Err(invalid());
        }
        Ok(Caller {
            tenant: tenant.to_owned(),
            role: stored.body.role,
            name: format!("key:{id}"),
            credentials: vec![Credential::Key(id.to_owned())],
        })
    }

    /// Whom an issuer's token names, if an operator has made that somebody of the tenant.
    async fn by_token(&self, tenant: &str, token: &str) -> Result<Caller, Problem> {
        let login = self.settings.issuers.verify(token, self.now()).await.map_err(|error| {
            tracing::info!(error = &error as &dyn std::error::Error, "a token was refused");
            match error {
                LoginError::Unavailable(_) => Problem::unavailable("issuer_unavailable", error.to_string()),
                _ => Problem::unauthorized("token_invalid", error.to_string()),
            }
        })?;
        if login.issuer == self.settings.issuer {
            return Err(Problem::unauthorized(
                "token_invalid",
                "this server's own tokens are about machines",
            ));
        }
        self.proved(tenant, Proved::by_token(login)).await
    }

    /// Whom the certificate of the connection names, if an operator has made that somebody of the tenant.
    async fn by_certificate(&self, tenant: &str, certificate: &ClientCertificate) -> Result<Caller, Problem> {
        // It was valid when the connection was made, which may be long ago.
        if self.now() >= certificate.not_after {
            return Err(Problem::unauthorized("certificate_expired", "the client certificate has expired"));
        }
        let proved = Proved::by_certificate(certificate).ok_or_else(|| {
            Problem::new(
                StatusCode::FORBIDDEN,
                "identity_unknown",
                "the client certificate has no URI, DNS name or subject to be known by",
            )
        })?;
        self.proved(tenant, proved).await
    }

    /// Who comes with something else over a connection that has a certificate, too: both must be of the tenant.
    async fn beside(&self, tenant: &str, certificate: &ClientCertificate) -> Result<Caller, Problem> {
        self.by_certificate(tenant, certificate).await.map_err(|problem| match problem.code {
            "identity_unknown" => Problem::unauthorized(
                "credentials_conflict",
                format!(
                    "the API key or token is of this tenant, and the client certificate is not: {}",
                    problem.detail
                ),
            ),
            _ => problem,
        })
    }

    async fn proved(&self, tenant: &str, proved: Proved) -> Result<Caller, Problem> {
        let (id, role) = self.recognise(tenant, &proved).await.inspect_err(|problem| {
            tracing::info!(tenant, code = problem.code, detail = problem.detail, "a caller was refused");
        })?;
        let Proved { name, until, .. } = proved;
        let name = name.unwrap_or_else(|| format!("cert:{id}"));
        let credentials = vec![Credential::Identity { id, role, until }];
        Ok(Caller { tenant: tenant.to_owned(), role, name, credentials })
    }

    /// Whether the caller would still be let on, with the same role.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn is_still_there(&self, caller: &Caller) -> Result<bool, StoreError> {
        for credential in &caller.credentials {
            let there = match credential {
                Credential::Key(id) => self.api_key(&caller.tenant, id).await?.is_some(),
                Credential::Identity { id, role, until } => {
                    let identity = self.identity(&caller.tenant, id).await?;
                    self.now() < *until && identity.is_some_and(|found| found.body.role == *role)
                }
            };
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the caller a new key with the same role; the one that was used is good no more.
    ///
    /// # Errors
    /// 403 `api_key_missing` if they came with something else: a key would outlive it. Otherwise as [`StoreError`] if the
    /// database cannot be used, or the key was renewed by another request.
    pub async fn renew_key(&self, caller: &Caller) -> Result<String, Problem> {
        let Some(Credential::Key(id)) = caller.credentials.first() else {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "api_key_missing",
                "only who came with an API key gets another one in its place",
            ));
        };
        let used = self.store.get::<ApiKey>(&caller.tenant, id).await?;
        let used = used.ok_or(StoreError::Conflict("the API key"))?;
        let mut change = self.store.change(&caller.name).await?;
        change.remove(&caller.tenant, &used).await?;
        let key = add_key(&self.environment, &mut change, &caller.tenant, caller.role).await?;
        change.commit().await?;
        Ok(key)
    }

    /// Takes the key of this id away; gives whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, or the key is renewed at the same time.
    pub async fn remove_key(&self, tenant: &str, id: &str, actor: &str) -> Result<bool, StoreError> {
        self.store.remove::<ApiKey>(tenant, id, actor).await
    }

    /// The key of this id, as it was a moment ago.
    async fn api_key(&self, tenant: &str, id: &str) -> Result<Option<Document<ApiKey>>, StoreError> {
        let read = async || self.store.get::<ApiKey>(tenant, id).await;
        let (of, changes) = ((tenant.to_owned(), id.to_owned()), self.store.changes());
        self.known.api_keys.get(of, self.settings.fresh, changes, read).await
    }
}

fn key_digest(key: &str) -> String {
    hex::encode(digest(&SHA256, key.as_bytes()))
}

/// Makes a key.
pub(crate) async fn add_key(
    environment: &Environment,
    change: &mut Change,
    tenant: &str,
    role: Role,
) -> Result<String, StoreError> {
    let mut rng = environment.rng().map_err(|_| StoreError::Key)?;
    let key = Alphanumeric.sample_string(&mut rng, KEY_LEN);
    let id = key.get(..ID_LEN).unwrap_or_default();
    change.add(tenant, id, id, &ApiKey { role, digest: key_digest(&key) }).await?;
    Ok(key)
}
