//! Who asks: the tenant that the key belongs to. The header `User-Id` says nothing by itself.

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use rand::distr::{Alphanumeric, SampleString as _};
use service_kit::environment::Environment;
use service_kit::problem::Problem;
use subtle::ConstantTimeEq as _;

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
    /// The key that they used.
    pub key_id: String,
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
            "the role of this API key does not allow that",
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
        let key = header("API-Key").unwrap_or_default();
        let well_formed = key.len() == KEY_LEN && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id = key.get(..ID_LEN).filter(|_| well_formed).ok_or_else(|| {
            Problem::bad_request("api_key_invalid", "Validation error: API-Key is 32 letters and digits")
        })?;
        let invalid = || Problem::unauthorized("api_key_unknown", "Invalid API key");
        let stored = service.api_key(tenant, id).await?.ok_or_else(invalid)?;
        if !bool::from(stored.body.digest.as_bytes().ct_eq(key_digest(key).as_bytes())) {
            return Err(invalid());
        }
        Ok(Self {
            tenant: tenant.to_owned(),
            role: stored.body.role,
            name: format!("key:{id}"),
            key_id: id.to_owned(),
        })
    }
}

impl Service {
    /// The key of this id, as it was a moment ago.
    async fn api_key(&self, tenant: &str, id: &str) -> Result<Option<Document<ApiKey>>, StoreError> {
        let read = async || self.store.get::<ApiKey>(tenant, id).await;
        let (of, changes) = ((tenant.to_owned(), id.to_owned()), self.store.changes());
        self.known.api_keys.get(of, self.settings.fresh, changes, read).await
    }

    /// Whether the key with which the caller came has not been taken away since.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn key_exists(&self, caller: &Caller) -> Result<bool, StoreError> {
        Ok(self.api_key(&caller.tenant, &caller.key_id).await?.is_some())
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
