//! Challenges: issued once, used once, by the session that they were issued to.

use sha2::{Digest as _, Sha256};

use super::{Store, StoreError};

/// What became of an attempt to use a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redemption {
    /// It was fresh and is now used.
    Accepted,
    /// It was used before.
    Used,
    /// It is too old.
    Expired,
    /// It was never issued, or issued to another session.
    Unknown,
}

impl Store {
    /// Records a challenge unless `limit` unexpired ones are outstanding; says whether it was recorded.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn issue_challenge(
        &self,
        challenge: &[u8],
        session: &str,
        now: i64,
        lifetime: i64,
        limit: u32,
    ) -> Result<bool, StoreError> {
        // One statement, so that instances which share the database cannot exceed the limit together.
        let inserted = sqlx::query(
            "INSERT INTO challenges (challenge, session, expires_at)
             SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM challenges WHERE expires_at > ?4) < ?5",
        )
        .bind(challenge)
        .bind(session_digest(session))
        .bind(now.saturating_add(lifetime))
        .bind(now)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Uses a challenge.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used; the challenge must then be taken as not usable.
    pub async fn redeem_challenge(
        &self,
        challenge: &[u8],
        session: &str,
        now: i64,
    ) -> Result<Redemption, StoreError> {
        let session = session_digest(session);
        // The condition and the change are one statement: of two instances, or two requests, one gets the row.
        let redeemed = sqlx::query(
            "UPDATE challenges SET used = 1
             WHERE challenge = ?1 AND session = ?2 AND used = 0 AND expires_at > ?3",
        )
        .bind(challenge)
        .bind(session.as_slice())
        .bind(now)
        .execute(&self.pool)
        .await?;
        if redeemed.rows_affected() == 1 {
            return Ok(Redemption::Accepted);
        }
        let row: Option<(bool,)> =
            sqlx::query_as("SELECT used FROM challenges WHERE challenge = ?1 AND session = ?2")
                .bind(challenge)
                .bind(session)
                .fetch_optional(&self.pool)
                .await?;
        Ok(match row {
            None => Redemption::Unknown,
            Some((true,)) => Redemption::Used,
            Some((false,)) => Redemption::Expired,
        })
    }

    /// Forgets challenges that expired before `before`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn sweep_challenges(&self, before: i64) -> Result<u64, StoreError> {
        let deleted = sqlx::query("DELETE FROM challenges WHERE expires_at < ?1")
            .bind(before)
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected())
    }
}

/// The database holds digests of session cookies, so that reading it gives nobody a session.
fn session_digest(session: &str) -> Vec<u8> {
    Sha256::digest(session.as_bytes()).to_vec()
}
