//! Challenges: issued once, used once, by the session that they were issued to.

use super::db::params;
use super::{Store, StoreError, session_digest};

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
    /// Records a challenge unless `limit` unexpired ones are outstanding; says whether it was recorded. On PostgreSQL,
    /// requests at the same moment do not see each other and can exceed the limit by their number.
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
        // One statement, so that instances which share the database count together.
        let inserted = self
            .db
            .execute(
                "INSERT INTO challenges (challenge, session, expires_at)
                 SELECT $1, $2, $3 WHERE (SELECT count(*) FROM challenges WHERE expires_at > $4) < $5",
                params![challenge, &session_digest(session), now.saturating_add(lifetime), now, limit],
            )
            .await?;
        Ok(inserted == 1)
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
        let redeemed = self
            .db
            .execute(
                "UPDATE challenges SET used = 1
                 WHERE challenge = $1 AND session = $2 AND used = 0 AND expires_at > $3",
                params![challenge, &session, now],
            )
            .await?;
        if redeemed == 1 {
            return Ok(Redemption::Accepted);
        }
        let row = self
            .db
            .fetch_optional(
                "SELECT used FROM challenges WHERE challenge = $1 AND session = $2",
                params![challenge, &session],
            )
            .await?;
        Ok(match row.map(|row| row.flag("used")).transpose()? {
            None => Redemption::Unknown,
            Some(true) => Redemption::Used,
            Some(false) => Redemption::Expired,
        })
    }

    /// Forgets challenges that expired before `before`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn sweep_challenges(&self, before: i64) -> Result<u64, StoreError> {
        Ok(self.db.execute("DELETE FROM challenges WHERE expires_at < $1", params![before]).await?)
    }
}
