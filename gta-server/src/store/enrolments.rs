//! Enrolments that wait for their credential to be opened.

use serde::{Deserialize, Serialize};
use service_kit::db::params;
use subtle::ConstantTimeEq as _;

use super::{Store, StoreError};
use crate::model::Node;

/// A machine that is to become a node once it has opened its credential.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// The node's name.
    pub node_id: String,
    /// What is to be registered.
    pub node: Node,
}

impl Store {
    /// Remembers an enrolment and the digest of its credential.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn add_enrolment(
        &self,
        tenant: &str,
        id: &str,
        enrolment: &Enrolment,
        digest: &[u8],
        expires_at: i64,
    ) -> Result<(), StoreError> {
        let body = serde_json::to_string(enrolment).map_err(|_| StoreError::Key)?;
        // What is to be registered must come back as it was: the digest is over it, too, under the tenant's name.
        let digest = self.bind(tenant, &body, digest).await?;
        const INSERT: &str =
            "INSERT INTO enrolments (id, tenant, body, digest, expires_at) VALUES ($1, $2, $3, $4, $5)";
        self.db.execute(INSERT, params![id, tenant, &body, &digest, expires_at]).await?;
        Ok(())
    }

    /// Takes an enrolment out, if `digest` is that of its credential. One try is all that there is.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn take_enrolment(
        &self,
        tenant: &str,
        id: &str,
        digest: &[u8],
    ) -> Result<Option<Enrolment>, StoreError> {
        const TAKE: &str = "DELETE FROM enrolments WHERE id = $1 AND tenant = $2 AND expires_at > $3
            RETURNING body, digest";
        let row = self.db.execute_returning(TAKE, params![id, tenant, self.now()]).await?;
        let Some(row) = row else { return Ok(None) };
        let (body, expected): (String, Vec<u8>) = (row.get("body")?, row.get("digest")?);
        let digest = self.bind(tenant, &body, digest).await?;
        if !bool::from(digest.ct_eq(&expected)) {
            return Ok(None);
        }
        serde_json::from_str(&body).map(Some).map_err(|_| StoreError::Key)
    }

    async fn bind(&self, tenant: &str, body: &str, digest: &[u8]) -> Result<Vec<u8>, StoreError> {
        use super::tag::{Field, tag};
        // An enrolment that a rotation of keys falls into is begun anew.
        let (_, key) = self.keys.active_mac(super::Purpose::Row).await?;
        let fields = [Field::Text("enrolment"), Field::Text(tenant), Field::Text(body), Field::Bytes(digest)];
        Ok(tag(&key, &fields))
    }
}
