//! A new master key: what others seal is put under it, while servers that have them all go on.

use crate::model::{Tenant, Webhook};
use crate::store::{Store, StoreError};

/// How often a webhook is looked at that somebody changes at the same time.
const TRIES: usize = 5;

/// Puts every secret under the present master key; gives how many it were. If it is interrupted, it can be done again.
///
/// # Errors
/// [`StoreError::Vault`] if one is sealed under a master key that was not given, or was altered.
pub async fn rewrap(store: &Store, actor: &str) -> Result<u64, StoreError> {
    let mut count = store.keys().rewrap().await?;
    for tenant in store.list::<Tenant>("").await? {
        for webhook in store.list::<Webhook>(&tenant.id).await? {
            count += u64::from(rewrap_webhook(store, &tenant.id, &webhook.id, actor).await?);
        }
    }
    Ok(count)
}

/// Gives whether there was something to be done.
async fn rewrap_webhook(store: &Store, tenant: &str, id: &str, actor: &str) -> Result<bool, StoreError> {
    let mut tries = 1;
    loop {
        match try_rewrap_webhook(store, tenant, id, actor).await {
            Err(StoreError::Conflict(_)) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

async fn try_rewrap_webhook(store: &Store, tenant: &str, id: &str, actor: &str) -> Result<bool, StoreError> {
    let Some(webhook) = store.get::<Webhook>(tenant, id).await? else { return Ok(false) };
    let context = Webhook::context(tenant, id);
    let Some(secret) = store.keys().rewrap_secret(&context, &webhook.body.secret).await? else {
        return Ok(false);
    };
    let body = Webhook { secret, ..webhook.body.clone() };
    let mut change = store.change(actor).await?;
    change.replace(tenant, &webhook, &webhook.name, &body).await?;
    change.commit().await?;
    Ok(true)
}
