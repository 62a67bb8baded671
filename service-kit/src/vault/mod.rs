//! Secrets at rest: each is sealed with AES-256-GCM under a key of its own, and that key under a master key that the
//! database never sees. A context, which says what the secret is, goes into both as additional data: what is sealed as
//! one thing does not open as another. Changing the master key means to wrap the small keys anew, not the contents.

mod file;
mod pkcs11;
mod source;
mod transit;

use std::sync::Arc;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use self::file::{FileKey, FileKeyError};
pub use self::pkcs11::{KeyUri, KeyUriError, TokenKey, TokenKeyError};
pub use self::source::{MasterKeyError, MasterKeySource, MasterKeysError};
pub use self::transit::{TransitKey, TransitKeyError, TransitUri, TransitUriError};
use crate::environment::{EntropyError, Environment};

const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// A secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Sealed under a key that this instance was not given.
    #[error(
        "a secret is sealed under master key {0}, which was not given: see --master-key and --old-master-key"
    )]
    UnknownMasterKey(String),
    /// Altered, or of something else.
    #[error("a sealed secret was altered, or belongs to something else")]
    Altered,
    /// The master key's device, or the server that has it, does not do its work.
    #[error("the device or server that holds the master key failed")]
    Device(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl VaultError {
    fn device(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Device(cause.into())
    }
}

/// The identifier of a master key of this kind, from a digest that only this key gives.
fn identifier(kind: &str, digest: &[u8]) -> String {
    format!("{kind}:{}", hex::encode(digest.get(..8).unwrap_or(digest)))
}

/// The key of a secret, as it was wrapped.
fn content_key(bytes: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError> {
    <[u8; KEY_LEN]>::try_from(bytes).map(Zeroizing::new).map_err(|_| VaultError::Altered)
}

/// A sealed secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Nonce, ciphertext and tag.
    pub content: Vec<u8>,
    /// The content's key, wrapped by the master key.
    pub wrapped_key: Vec<u8>,
    /// The identifier of the master key.
    pub master_key: String,
}

impl Sealed {
    /// SHA-256 of the sealed content, which names it and tells nothing of the secret.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.content).into()
    }
}

/// The key of a secret, as a master key wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// What the master key made of it.
    pub key: Vec<u8>,
    /// The identifier that the master key had.
    pub by: String,
}

/// A key that wraps other keys.
pub trait MasterKey: Send + Sync {
    /// Its identifier, which tells nothing of the key. It is another one when the key was renewed where it is kept.
    fn id(&self) -> String;

    /// Whether it is worth a try to unwrap what was wrapped under this identifier.
    fn may_open(&self, id: &str) -> bool {
        self.id() == id
    }

    /// Wraps `key` with an authenticated cipher of 256 bits, here with AES-GCM: nonce, ciphertext and tag. A master key that
    /// chooses its own nonces does not need `nonce`.
    ///
    /// # Errors
    /// [`VaultError::Device`].
    fn wrap(
        &self,
        key: &[u8; KEY_LEN],
        context: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Wrapped, VaultError>;

    /// Undoes [`MasterKey::wrap`].
    ///
    /// # Errors
    /// [`VaultError::Altered`] unless `wrapped` was wrapped by this key for this context, [`VaultError::UnknownMasterKey`] if
    /// it turns out to be another's.
    fn unwrap(&self, wrapped: &Wrapped, context: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError>;
}

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Vault {
    current: Arc<dyn MasterKey>,
    old: Vec<Arc<dyn MasterKey>>,
    environment: Environment,
}

impl Vault {
    /// Seals under `current`, and opens what was sealed under it or under one of `old`.
    #[must_use]
    pub fn new(current: Arc<dyn MasterKey>, old: Vec<Arc<dyn MasterKey>>, environment: Environment) -> Self {
        Self { current, old, environment }
    }

    /// The identifier of the current master key.
    #[must_use]
    pub fn current_id(&self) -> String {
        self.current.id()
    }

    /// Seals a secret.
    ///
    /// # Errors
    /// [`VaultError`] without randomness, or if the master key's device fails.
    pub async fn seal(&self, context: &str, secret: &[u8]) -> Result<Sealed, VaultError> {
        let key = Zeroizing::new(self.environment.random::<KEY_LEN>()?);
        let content = encrypt(&key, context.as_bytes(), self.environment.random()?, secret)?;
        let Wrapped { key: wrapped_key, by: master_key } = self.wrap(context, key).await?;
        Ok(Sealed { content, wrapped_key, master_key })
    }

    /// Opens a sealed secret.
    ///
    /// # Errors
    /// [`VaultError`] unless it was sealed for this context under a key that this instance has.
    pub async fn open(&self, context: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let key = self.unwrap(context, sealed).await?;
        decrypt(&key, context.as_bytes(), &sealed.content)
    }

    /// The same secret with its key wrapped by the current master key.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn rewrap(&self, context: &str, sealed: &Sealed) -> Result<Sealed, VaultError> {
        let key = self.unwrap(context, sealed).await?;
        let Wrapped { key: wrapped_key, by: master_key } = self.wrap(context, key).await?;
        Ok(Sealed { content: sealed.content.clone(), wrapped_key, master_key })
    }

    async fn wrap(&self, context: &str, key: Zeroizing<[u8; KEY_LEN]>) -> Result<Wrapped, VaultError> {
        let (master, context, nonce) =
            (Arc::clone(&self.current), context.to_owned(), self.environment.random()?);
        blocking(move || master.wrap(&key, context.as_bytes(), nonce)).await
    }

    async fn unwrap(&self, context: &str, sealed: &Sealed) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError> {
        let keys: Vec<_> = std::iter::once(&self.current).chain(&self.old).map(Arc::clone).collect();
        let context = context.to_owned();
        let wrapped = Wrapped { key: sealed.wrapped_key.clone(), by: sealed.master_key.clone() };
        blocking(move || {
            let mut failed = None;
            for key in keys.iter().filter(|key| key.may_open(&wrapped.by)) {
                match key.unwrap(&wrapped, context.as_bytes()) {
                    // Another one of the same kind may be meant. If none is, a device that fails is to blame before others.
                    Err(error) if !matches!(failed, Some(VaultError::Device(_))) => failed = Some(error),
                    Err(_) => {}
                    opened => return opened,
                }
            }
            Err(failed.unwrap_or(VaultError::UnknownMasterKey(wrapped.by)))
        })
        .await
    }
}

/// A master key may be in a device that takes its time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(VaultError::device(error)))
}

fn encrypt(
    key: &[u8; KEY_LEN],
    context: &[u8],
    nonce: [u8; NONCE_LEN],
    plaintext: &[u8],
) -> Result<Vec<u8>, VaultError> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + plaintext.len() + TAG_LEN);
    sealed.extend_from_slice(plaintext);
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&nonce.into(), context, sealed.as_mut_slice().into())
        .map_err(|_| VaultError::Altered)?;
    sealed.extend_from_slice(&tag);
    sealed.splice(0..0, nonce);
    Ok(sealed)
}

fn decrypt(key: &[u8; KEY_LEN], context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Altered)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(VaultError::Altered)?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(&(*nonce).into(), context, plaintext.as_mut_slice().into(), &(*tag).into())
        .map_err(|_| VaultError::Altered)?;
    Ok(plaintext)
}
