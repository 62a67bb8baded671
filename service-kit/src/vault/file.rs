//! A master key in a file: 32 bytes in hexadecimal, readable by the service's user only.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{KEY_LEN, MasterKey, NONCE_LEN, VaultError, Wrapped, content_key, decrypt, encrypt, identifier};
use crate::environment::{EntropyError, Environment};
use crate::private_file::{self, PrivateFileError};

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileKeyError {
    /// It cannot be created or read, or others can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It holds something else.
    #[error(
        "{0} does not hold a master key: {KEY_LEN} bytes in hexadecimal, as openssl rand -hex 32 writes them"
    )]
    Format(PathBuf),
    /// No key could be made.
    #[error("cannot generate a master key")]
    Generate(#[from] EntropyError),
}

/// A master key in this process.
pub struct FileKey {
    id: String,
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl FileKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; KEY_LEN]>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"redoubt master key identifier");
        hash.update(key.as_slice());
        Self { id: identifier("file", &hash.finalize()), key }
    }

    /// Reads the key at `path`.
    ///
    /// # Errors
    /// [`FileKeyError`] names the file and says what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, FileKeyError> {
        let text = private_file::read(path)?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice())
            .map_err(|_| FileKeyError::Format(path.to_owned()))?;
        Ok(Self::new(key))
    }

    /// Reads the key at `path`, or makes one there if there is no file.
    ///
    /// # Errors
    /// As [`FileKey::load`].
    pub fn load_or_create(path: &Path, environment: &Environment) -> Result<Self, FileKeyError> {
        if !private_file::exists(path)? {
            let key = Zeroizing::new(environment.random::<KEY_LEN>()?);
            let mut text = Zeroizing::new(hex::encode(key.as_slice()));
            text.push('\n');
            private_file::create(path, text.as_bytes())?;
        }
        Self::load(path)
    }
}

impl MasterKey for FileKey {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn wrap(
        &self,
        key: &[u8; KEY_LEN],
        context: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Wrapped, VaultError> {
        Ok(Wrapped { key: encrypt(&self.key, context, nonce, key)?, by: self.id() })
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, VaultError> {
        content_key(&decrypt(&self.key, context, &wrapped.key)?)
    }
}
