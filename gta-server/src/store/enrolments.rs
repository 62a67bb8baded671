//! Enrolments that wait for their credential to be opened.

use serde::{Deserialize, Serialize};
use service_kit::db::params;

use super::keys::KEY_ID_LEN;
use super::tag::{Field, is_tag, tag};
use super::{Purpose, Store, StoreError};
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
        let (key_id, key) = self.keys.active_mac(Purpose::Row).await?;
        let mut bound = hex::decode(key_id).map_err(|_| StoreError::Key)?;
        bound.extend(tag(&key, &fields(tenant, &body, digest, expires_at)));
        const INSERT: &str =
            "INSERT INTO enrolments (id, tenant, body, digest, expires_at) VALUES ($1, $2, $3, $4, $5)";
        self.db.execute(INSERT, params![id, tenant, &body, &bound, expires_at]).await?;
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
            RETURNING body, digest, expires_at";
        let row = self.db.execute_returning(TAKE, params![id, tenant, self.now()]).await?;
        let Some(row) = row else { return Ok(None) };
        let (body, bound): (String, Vec<u8>) = (row.get("body")?, row.get("digest")?);
        // A key may have been rotated since.
        let Some((key_id, expected)) = bound.split_at_checked(KEY_ID_LEN) else { return Ok(None) };
        let Some(key) = self.keys.mac(Purpose::Row, &hex::encode(key_id)).await? else { return Ok(None) };
        if !is_tag(&key, &fields(tenant, &body, digest, row.get("expires_at")?), expected) {
            return Ok(None);
        }
        serde_json::from_str(&body).map(Some).map_err(|_| StoreError::Key)
    }
}

/// What is to be registered must come back as it was, in its time: what is kept of the credential is over it, too, under the
/// tenant's name.
fn fields<'a>(tenant: &'a str, body: &'a str, digest: &'a [u8], expires_at: i64) -> [Field<'a>; 5] {
    [
        Field::Text("enrolment"),
        Field::Text(tenant),
        Field::Text(body),
        Field::Bytes(digest),
        Field::Number(expires_at),
    ]
}
