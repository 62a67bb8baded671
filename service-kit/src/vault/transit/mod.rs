//! A master key in the transit engine of OpenBao or HashiCorp Vault, which wraps inside the server and never leaves it.
//!
//! Whatever the key wraps is named by the version of the key that wrapped it, through what only this version gives (its HMAC
//! of a constant). So a key that was rotated goes on being the key, one that was made anew under the same name does not, and
//! what older versions wrapped can be found, to be wrapped anew before the server stops opening it.

mod answers;
mod client;
mod credentials;
mod error;
#[cfg(test)]
mod tests;
mod uri;

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use self::answers::{Answer, Ciphertext, Decrypted, DecryptedAll, Description, Encrypted, Mac};
use self::client::{Client, Operation};
pub use self::error::TransitKeyError;
pub use self::uri::{TransitUri, TransitUriError};
use super::{KEY_LEN, MasterKey, NONCE_LEN, VaultError, Wrapped, content_key, identifier};

const KIND: &str = "transit";
/// What a version's identifier is made from: its HMAC of this.
const NAMED: &[u8] = b"redoubt master key identifier";
/// What is wrapped to see that the key is the one of before, and for what.
const CHECKED: &[u8; KEY_LEN] = b"redoubt proof of the master key.";
const CHECKED_CONTEXT: &[u8] = b"redoubt self-test";
const OTHER_CONTEXT: &[u8] = b"redoubt self-test of something else";

/// A master key in a server.
pub struct TransitKey {
    client: Client,
    anchor: Mutex<Anchor>,
}

/// Something that the key wrapped. As long as the key opens it, it is the same key.
#[derive(Clone)]
struct Anchor {
    ciphertext: Ciphertext,
    /// Identifier of the version that wrapped it.
    id: String,
}

/// What the key wrapped, for what, and what it was.
type Opened<'a> = (&'a Ciphertext, &'a [u8], &'a [u8; KEY_LEN]);

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: String,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: String,
}

#[derive(Serialize)]
struct DecryptAll<'a> {
    batch_input: &'a [Decrypt<'a>],
}

#[derive(Serialize)]
struct MakeMac {
    input: String,
    key_version: u32,
}

impl TransitKey {
    /// Finds the key and tries it: what is wrapped for one purpose must not open for another.
    ///
    /// # Errors
    /// [`TransitKeyError`] says what is missing, and what to do.
    pub async fn open(uri: TransitUri) -> Result<Self, TransitKeyError> {
        let client = Client::new(uri)?;
        let Answer { data } = client.ask::<Answer<Description>>(Operation::Describe, None).await?;
        if let Some(reason) = data.flaw() {
            return Err(unfit(&client, reason));
        }
        let anchor = Anchor::make(&client).await?;
        Ok(Self { client, anchor: Mutex::new(anchor) })
    }

    fn anchor(&self) -> Anchor {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn wrap(&self, key: &[u8; KEY_LEN], context: &[u8]) -> Result<Wrapped, TransitKeyError> {
        let wrapped = encrypt(&self.client, key, context).await?;
        let mut anchor = self.anchor();
        if wrapped.version > anchor.ciphertext.version {
            anchor = self.renew_anchor((&anchor.ciphertext, CHECKED_CONTEXT, CHECKED)).await?;
        }
        let id = if wrapped.version == anchor.ciphertext.version {
            anchor.id
        } else {
            name(&self.client, wrapped.version).await?
        };
        // What does not open now would never be opened again.
        self.prove(&[(&anchor.ciphertext, CHECKED_CONTEXT, CHECKED), (&wrapped, context, key)]).await?;
        Ok(Wrapped { key: wrapped.as_str().as_bytes().to_vec(), by: id })
    }

    /// An anchor of the newest version, because the server may soon open nothing any more that is as old as the one of before.
    /// `known` is something that the right key opens.
    async fn renew_anchor(&self, known: Opened<'_>) -> Result<Anchor, TransitKeyError> {
        let newer = Anchor::make(&self.client).await?;
        self.prove(&[known, (&newer.ciphertext, CHECKED_CONTEXT, CHECKED)]).await?;
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&newer);
        Ok(newer)
    }

    /// Fails unless the key, at one moment, opens all of these. Another key under the same name does not.
    async fn prove(&self, wrapped: &[Opened<'_>]) -> Result<(), TransitKeyError> {
        match self.read_back(wrapped).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(TransitKeyError::Refused { .. }) => Err(self.is_another()),
            Err(error) => Err(error),
        }
    }

    /// Whether the key opens all of these, and finds in them what was wrapped.
    async fn read_back(&self, wrapped: &[Opened<'_>]) -> Result<bool, TransitKeyError> {
        let items: Vec<Decrypt<'_>> =
            wrapped.iter().map(|(ciphertext, context, _)| Decrypt::new(ciphertext, context)).collect();
        let body = json(&DecryptAll { batch_input: &items });
        let Answer { data } = self.client.ask::<Answer<DecryptedAll>>(Operation::Decrypt, Some(body)).await?;
        let same = |(opened, (.., key)): (&Decrypted, &(_, _, &[u8; KEY_LEN]))| {
            opened.plaintext.0.as_slice() == key.as_slice()
        };
        Ok(data.batch_results.len() == wrapped.len() && data.batch_results.iter().zip(wrapped).all(same))
    }

    async fn unwrap(
        &self,
        wrapped: &Wrapped,
        context: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError> {
        let ciphertext = std::str::from_utf8(&wrapped.key).ok().and_then(Ciphertext::parse);
        let ciphertext = ciphertext.ok_or(VaultError::Altered)?;
        match decrypt(&self.client, &ciphertext, context).await {
            Ok(key) => {
                let key = content_key(&key)?;
                if ciphertext.version > self.anchor().ciphertext.version
                    && let Err(error) = self.renew_anchor((&ciphertext, context, &key)).await
                {
                    // It has opened, which is what was asked for. Wrapping will say so again.
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a new version of the master key"
                    );
                }
                Ok(key)
            }
            Err(TransitKeyError::Refused { .. }) => Err(self.why_refused(&ciphertext, &wrapped.by).await),
            Err(error) => Err(VaultError::device(error)),
        }
    }

    /// Servers do not agree on what a wrong tag is called. A key that still works has found one.
    async fn why_refused(&self, ciphertext: &Ciphertext, by: &str) -> VaultError {
        let asked = self.client.ask::<Answer<Description>>(Operation::Describe, None).await;
        let minimum = match asked {
            Ok(Answer { data }) => data.min_decryption_version,
            Err(error) => return VaultError::device(error),
        };
        let uri = self.client.uri().to_string();
        if ciphertext.version < minimum {
            let version = ciphertext.version;
            return VaultError::device(TransitKeyError::TooOld { uri, version, minimum });
        }
        let anchor = self.anchor();
        match decrypt(&self.client, &anchor.ciphertext, CHECKED_CONTEXT).await {
            Ok(opened) if opened.as_slice() == CHECKED => {}
            Ok(_) | Err(TransitKeyError::Refused { .. }) => return VaultError::device(self.is_another()),
            Err(error) => return VaultError::device(error),
        }
        let is_ours =
            by == anchor.id || name(&self.client, ciphertext.version).await.is_ok_and(|id| id == by);
        if is_ours { VaultError::Altered } else { VaultError::UnknownMasterKey(by.to_owned()) }
    }

    fn is_another(&self) -> TransitKeyError {
        unfit(
            &self.client,
            "it is not the key that it was before, or min_decryption_version was raised above the version that this program \
             has used last; in the latter case start it anew, or have it open a secret",
        )
    }
}

impl MasterKey for TransitKey {
    fn id(&self) -> String {
        self.anchor().id
    }

    /// Older versions of the key have other identifiers, which need not all be known: opening tells.
    fn may_open(&self, id: &str) -> bool {
        id.strip_prefix(KIND).is_some_and(|rest| rest.starts_with(':'))
    }

    /// The server chooses its own nonce.
    fn wrap(
        &self,
        key: &[u8; KEY_LEN],
        context: &[u8],
        _nonce: [u8; NONCE_LEN],
    ) -> Result<Wrapped, VaultError> {
        wait(Self::wrap(self, key, context))?.map_err(VaultError::device)
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError> {
        wait(Self::unwrap(self, wrapped, context))?
    }
}

/// Master keys are used in threads of a runtime that may block; its other threads do the work.
fn wait<T>(work: impl Future<Output = T>) -> Result<T, VaultError> {
    let runtime = tokio::runtime::Handle::try_current();
    Ok(runtime.map_err(|_| VaultError::device(TransitKeyError::Runtime))?.block_on(work))
}

impl Anchor {
    /// Tries the key. Some servers take associated data of some keys and leave it out.
    async fn make(client: &Client) -> Result<Self, TransitKeyError> {
        let ciphertext = encrypt(client, CHECKED, CHECKED_CONTEXT).await?;
        if decrypt(client, &ciphertext, CHECKED_CONTEXT).await?.as_slice() != CHECKED {
            return Err(unfit(client, "it does not decrypt what it encrypts"));
        }
        match decrypt(client, &ciphertext, OTHER_CONTEXT).await {
            Err(TransitKeyError::Refused { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(unfit(
                    client,
                    "the server leaves associated_data out, so that a secret could be passed off as another; use OpenBao, or \
                     Vault 1.13 or newer",
                ));
            }
        }
        let id = name(client, ciphertext.version).await?;
        Ok(Self { ciphertext, id })
    }
}

impl<'a> Decrypt<'a> {
    fn new(ciphertext: &'a Ciphertext, context: &[u8]) -> Self {
        Self { ciphertext: ciphertext.as_str(), associated_data: STANDARD.encode(context) }
    }
}

async fn encrypt(
    client: &Client,
    key: &[u8; KEY_LEN],
    context: &[u8],
) -> Result<Ciphertext, TransitKeyError> {
    let plaintext = Zeroizing::new(STANDARD.encode(key));
    let body = json(&Encrypt { plaintext: &plaintext, associated_data: STANDARD.encode(context) });
    Ok(client.ask::<Answer<Encrypted>>(Operation::Encrypt, Some(body)).await?.data.ciphertext)
}

async fn decrypt(
    client: &Client,
    ciphertext: &Ciphertext,
    context: &[u8],
) -> Result<Zeroizing<Vec<u8>>, TransitKeyError> {
    let body = json(&Decrypt::new(ciphertext, context));
    Ok(client.ask::<Answer<Decrypted>>(Operation::Decrypt, Some(body)).await?.data.plaintext.0)
}

/// The identifier of a version of the key.
async fn name(client: &Client, version: u32) -> Result<String, TransitKeyError> {
    let body = json(&MakeMac { input: STANDARD.encode(NAMED), key_version: version });
    let Answer { data: Mac { hmac } } = client.ask(Operation::Hmac, Some(body)).await?;
    if hmac.version != version {
        return Err(client.strange(client.path(Operation::Hmac)));
    }
    Ok(identifier(KIND, &Sha256::digest(hmac.as_str())))
}

fn unfit(client: &Client, reason: &'static str) -> TransitKeyError {
    TransitKeyError::Unfit { uri: client.uri().to_string(), reason }
}

/// Texts and numbers, which can always be written.
fn json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(value).unwrap_or_default())
}
