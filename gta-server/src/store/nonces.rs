//! Nonces that were given out and not used. Each is used once, whichever instance gave it out: using takes it away.

use aws_lc_rs::hmac;
use service_kit::db::params;

use super::tag::{Field, is_tag, tag};
use super::{Store, StoreError};

fn fields<'a>(tenant: &'a str, node: Option<&'a str>, iat: i64, value: &'a [u8]) -> [Field<'a>; 6] {
    [
        Field::Text("nonce"),
        Field::Text(tenant),
        Field::Number(node.is_some().into()),
        Field::Text(node.unwrap_or_default()),
        Field::Number(iat),
        Field::Bytes(value),
    ]
}

/// What says that a nonce is ours.
pub fn authenticate_nonce(
    key: &hmac::Key,
    tenant: &str,
    node: Option<&str>,
    iat: i64,
    value: &[u8],
) -> Vec<u8> {
    tag(key, &fields(tenant, node, iat, value))
}

/// Whether it does.
pub fn is_nonce(
    key: &hmac::Key,
    tenant: &str,
    node: Option<&str>,
    iat: i64,
    value: &[u8],
    signature: &[u8],
) -> bool {
    is_tag(key, &fields(tenant, node, iat, value), signature)
}

impl Store {
    /// Remembers a nonce, unless `limit` of the tenant wait for an answer already.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn add_nonce(
        &self,
        tenant: &str,
        node: Option<&str>,
        value: &[u8],
        expires_at: i64,
        limit: i64,
    ) -> Result<bool, StoreError> {
        const INSERT: &str = "INSERT INTO nonces (value, tenant, node, expires_at) SELECT $1, $2, $3, $4
            WHERE (SELECT COUNT(*) FROM nonces WHERE tenant = $2 AND expires_at > $5) < $6";
        let values = params![value, tenant, node, expires_at, self.now(), limit];
        Ok(self.db.execute(INSERT, values).await? == 1)
    }

    /// Uses a nonce up for `node`; false if it was used before, is not known, or was given to another node.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn use_nonce(&self, tenant: &str, node: &str, value: &[u8]) -> Result<bool, StoreError> {
        const USE: &str =
            "DELETE FROM nonces WHERE value = $1 AND tenant = $2 AND (node IS NULL OR node = $3)
            AND expires_at > $4";
        Ok(self.db.execute(USE, params![value, tenant, node, self.now()]).await? == 1)
    }

    /// Forgets what has expired: nonces, and credentials that nobody opened.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let now = self.now();
        let nonces = self.db.execute("DELETE FROM nonces WHERE expires_at <= $1", params![now]).await?;
        let enrolments =
            self.db.execute("DELETE FROM enrolments WHERE expires_at <= $1", params![now]).await?;
        Ok(nonces + enrolments)
    }
}
