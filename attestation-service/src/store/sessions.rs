//! Sessions of the key broker protocol: a nonce is issued, evidence is appraised once, and the token is kept with the key
//! of the TEE until the session expires.

use super::db::{Row, params};
use super::{Store, StoreError, session_digest};

/// States as stored.
const ISSUED: i64 = 0;
const APPRAISING: i64 = 1;
const ATTESTED: i64 = 2;

/// A session whose evidence was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedSession {
    /// The kind of trusted execution environment, as the client named it.
    pub tee: String,
    /// The public key of the TEE, a JWK in JSON.
    pub tee_key: String,
    /// The token.
    pub token: String,
}

/// What became of an attempt to present evidence in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The nonce was fresh and is now used: appraise the evidence against it.
    Granted {
        /// The kind of trusted execution environment, as the client named it.
        tee: String,
        /// The nonce.
        nonce: Vec<u8>,
    },
    /// Evidence was accepted in this session before.
    Attested(AttestedSession),
    /// Evidence was presented before and was refused, or is being appraised.
    Used,
    /// It is too old.
    Expired,
    /// There is no such session.
    Unknown,
}

fn attested(row: &Row) -> Result<AttestedSession, StoreError> {
    let text = |column| row.get::<Option<String>>(column)?.ok_or(StoreError::Corrupt("session"));
    Ok(AttestedSession { tee: row.get("tee")?, tee_key: text("tee_key")?, token: text("token")? })
}

impl Store {
    /// Records a session unless `limit` unexpired ones exist; says whether it was recorded.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn open_session(
        &self,
        session: &str,
        tee: &str,
        nonce: &[u8],
        now: i64,
        lifetime: i64,
        limit: u32,
    ) -> Result<bool, StoreError> {
        let inserted = self
            .db
            .execute(
                "INSERT INTO sessions (session, tee, nonce, expires_at)
                 SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM sessions WHERE expires_at > $5) < $6",
                params![&session_digest(session), tee, nonce, now.saturating_add(lifetime), now, limit],
            )
            .await?;
        Ok(inserted == 1)
    }

    /// Uses the nonce of a session.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used; the nonce must then be taken as not usable.
    pub async fn claim_session(&self, session: &str, now: i64) -> Result<Claim, StoreError> {
        let session = session_digest(session);
        // The condition and the change are one statement: of two instances, or two requests, one gets the row.
        let claimed = self
            .db
            .execute_returning(
                "UPDATE sessions SET state = 1 WHERE session = $1 AND state = 0 AND expires_at > $2
                 RETURNING tee, nonce",
                params![&session, now],
            )
            .await?;
        if let Some(row) = claimed {
            return Ok(Claim::Granted { tee: row.get("tee")?, nonce: row.get("nonce")? });
        }
        let row =
            self.db.fetch_optional("SELECT * FROM sessions WHERE session = $1", params![&session]).await?;
        let Some(row) = row else { return Ok(Claim::Unknown) };
        if row.get::<i64>("expires_at")? <= now {
            return Ok(Claim::Expired);
        }
        match row.get::<i64>("state")? {
            ATTESTED => attested(&row).map(Claim::Attested),
            // Whoever held it a moment ago has given it back to nobody: it was used.
            ISSUED | APPRAISING => Ok(Claim::Used),
            _ => Err(StoreError::Corrupt("session")),
        }
    }

    /// Keeps the token of a claimed session until `expires_at`; says whether the session was being appraised.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn attest_session(
        &self,
        session: &str,
        tee_key: &str,
        token: &str,
        expires_at: i64,
    ) -> Result<bool, StoreError> {
        let updated = self
            .db
            .execute(
                "UPDATE sessions SET state = 2, tee_key = $2, token = $3, expires_at = $4
                 WHERE session = $1 AND state = 1",
                params![&session_digest(session), tee_key, token, expires_at],
            )
            .await?;
        Ok(updated == 1)
    }

    /// An attested session that has not expired.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn attested_session(
        &self,
        session: &str,
        now: i64,
    ) -> Result<Option<AttestedSession>, StoreError> {
        let row = self
            .db
            .fetch_optional(
                "SELECT * FROM sessions WHERE session = $1 AND state = 2 AND expires_at > $2",
                params![&session_digest(session), now],
            )
            .await?;
        row.as_ref().map(attested).transpose()
    }

    /// Forgets sessions that expired before `before`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn sweep_sessions(&self, before: i64) -> Result<u64, StoreError> {
        Ok(self.db.execute("DELETE FROM sessions WHERE expires_at < $1", params![before]).await?)
    }
}
