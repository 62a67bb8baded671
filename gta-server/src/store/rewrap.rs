//! A new master key: what others seal is put under it, while servers that have them all go on.

use service_kit::db::params;

use super::{Kind, Store, StoreError};
use crate::model::Webhook;

/// How often a webhook is looked at that somebody changes at the same time.
const TRIES: usize = 5;

impl Store {
    /// Puts every secret under the present master key; gives how many it were. If it is interrupted, it can be done again.
    ///
    /// # Errors
    /// [`StoreError::Vault`] if one is sealed under a master key that was not given, or was altered.
    pub async fn rewrap(&self, actor: &str) -> Result<u64, StoreError> {
        const TENANTS: &str = "SELECT DISTINCT tenant FROM documents WHERE kind = $1";
        let mut count = self.keys.rewrap().await?;
        for row in self.db.fetch_all(TENANTS, params![Kind::Webhook.name()]).await? {
            let tenant: String = row.get("tenant")?;
            for webhook in self.list::<Webhook>(&tenant).await? {
                count += u64::from(self.rewrap_webhook(&tenant, &webhook.id, actor).await?);
            }
        }
        Ok(count)
    }

    /// Gives whether there was something to be done.
    async fn rewrap_webhook(&self, tenant: &str, id: &str, actor: &str) -> Result<bool, StoreError> {
        let mut tries = 1;
        loop {
            match self.try_rewrap_webhook(tenant, id, actor).await {
                Err(StoreError::Conflict(_)) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn try_rewrap_webhook(&self, tenant: &str, id: &str, actor: &str) -> Result<bool, StoreError> {
        let Some(webhook) = self.get::<Webhook>(tenant, id).await? else { return Ok(false) };
        let context = Webhook::context(tenant, id);
        let Some(secret) = self.keys.rewrap_secret(&context, &webhook.body.secret).await? else {
            return Ok(false);
        };
        let body = Webhook { secret, ..webhook.body.clone() };
        let mut change = self.change(actor).await?;
        change.replace(tenant, &webhook, &webhook.name, &body).await?;
        change.commit().await?;
        Ok(true)
    }
}
