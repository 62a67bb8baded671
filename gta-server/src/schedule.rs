//! Keys in time: new ones are made before old ones are too old, and old ones are taken away when nothing that they have made
//! is valid any more. Every instance looks; the database lets one of them do it.

use crate::service::Service;
use crate::store::{Purpose, StoreError};

/// Longest that any instance lets a token be valid, in seconds.
pub const MAX_TOKEN_LIFETIME: u32 = 86_400;
/// Longest that any instance waits for the answer to a nonce, in seconds.
pub const MAX_NONCE_LIFETIME: u32 = 3600;
/// How long keys are kept beyond that, in seconds: other instances' clocks may be behind, and they may make use of a key for
/// a moment after it was replaced.
const OVERLAP: u32 = 3600;
const DAY: i64 = 86_400;

/// How old keys become before others take their place, in days; 0 is for ever.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Those that authenticate rows.
    pub row: u32,
    /// Those that authenticate nonces.
    pub nonce: u32,
    /// Those that sign tokens.
    pub token: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { row: 365, nonce: 30, token: 90 }
    }
}

impl Rotation {
    /// In seconds, if keys are rotated at all.
    fn after(self, purpose: Purpose) -> Option<i64> {
        let days = match purpose {
            Purpose::Row => self.row,
            Purpose::Nonce => self.nonce,
            Purpose::Token => self.token,
        };
        (days > 0).then(|| i64::from(days) * DAY)
    }
}

/// How long after its replacement a key is kept, in seconds. Rows stay, and so do their keys: a journal that was written
/// anew would not end as those who keep its heads remember.
fn kept(purpose: Purpose) -> Option<i64> {
    let longest = match purpose {
        Purpose::Row => return None,
        Purpose::Nonce => MAX_NONCE_LIFETIME,
        Purpose::Token => MAX_TOKEN_LIFETIME,
    };
    Some(i64::from(longest) + i64::from(OVERLAP))
}

impl Service {
    /// Makes the keys whose time has come, takes away those whose time is over, and counts the age of the others.
    ///
    /// # Errors
    /// [`StoreError`] if that failed for one purpose; the others have been looked after.
    pub async fn look_after_keys(&self) -> Result<(), StoreError> {
        let mut done = Ok(());
        for purpose in Purpose::ALL {
            done = self.look_after(purpose).await.and(done);
        }
        for (purpose, made_at) in self.store.keys().made().await? {
            self.metrics.key_age(purpose, self.now().saturating_sub(made_at));
        }
        done
    }

    async fn look_after(&self, purpose: Purpose) -> Result<(), StoreError> {
        let keys = self.store.keys();
        let mut made = Ok(None);
        if let Some(period) = self.settings.rotation.after(purpose) {
            made = keys.rotate_after(purpose, period).await;
        }
        if let Ok(Some(id)) = &made {
            tracing::info!(purpose = purpose.name(), id, "a new key is in use");
        }
        // Whether or not a new one can be made, old ones go.
        if let Some(period) = kept(purpose) {
            let retired = keys.retire(purpose, period).await?;
            if retired > 0 {
                tracing::info!(purpose = purpose.name(), retired, "old keys were taken away");
            }
        }
        made.map(drop)
    }
}
