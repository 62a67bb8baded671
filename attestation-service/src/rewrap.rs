//! A new master key: the keys of all secrets are wrapped anew, while instances that have both master keys go on serving.

use crate::release;
use crate::store::audit::{Entry, OK};
use crate::store::{Store, StoreError};
use crate::token;
use crate::vault::{Vault, VaultError};

/// How many are done in one transaction; without it all would be held in memory at once.
const BATCH: u32 = 64;

/// The keys could not all be wrapped anew. Those that were stay so; the command can be given again.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// A secret is sealed under a master key that was not given, or was altered.
    #[error("cannot open {object}")]
    Vault {
        /// The secret.
        object: String,
        /// Why.
        source: VaultError,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Wraps the key of every secret by the current master key of `vault`; says how many it were.
///
/// # Errors
/// [`RewrapError`] names the first secret that cannot be opened.
pub async fn rewrap(store: &Store, vault: &Vault, actor: &str, now: i64) -> Result<u64, RewrapError> {
    let mut count = 0;
    loop {
        let batch = store.resources_not_under(&vault.current_id(), BATCH).await?;
        if batch.is_empty() {
            break;
        }
        let mut change = store.change().await?;
        for resource in batch {
            let object = release::context(&resource.entry.name, resource.entry.version);
            let sealed = vault
                .rewrap(&object, &resource.content)
                .await
                .map_err(|source| RewrapError::Vault { object: object.clone(), source })?;
            // One that was replaced meanwhile is seen again if it needs to be.
            count += u64::from(change.rewrap_resource(&resource.entry, &sealed).await?);
        }
        change.commit(&entry(actor, "resource.rewrap", &vault.current_id(), now)).await?;
    }
    let mut change = store.change().await?;
    for key in store.signing_keys().await? {
        if key.private.master_key == vault.current_id() {
            continue;
        }
        let object = token::context(&key.kid);
        let sealed = vault
            .rewrap(&object, &key.private)
            .await
            .map_err(|source| RewrapError::Vault { object: object.clone(), source })?;
        count += u64::from(change.rewrap_signing_key(&key.kid, &sealed).await?);
    }
    change.commit(&entry(actor, "signing_key.rewrap", &vault.current_id(), now)).await?;
    Ok(count)
}

const fn entry<'a>(actor: &'a str, action: &'a str, object: &'a str, at: i64) -> Entry<'a> {
    Entry { at, actor, action, object, digest: None, result: OK }
}
