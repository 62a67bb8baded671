//! Where a master key comes from, as operators say it.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::pkcs11::{KeyUri, KeyUriError, TokenKey, TokenKeyError};
use super::transit::{TransitKey, TransitKeyError, TransitUri, TransitUriError};
use super::{FileKey, FileKeyError, MasterKey, Vault};
use crate::environment::Environment;
use tokio::task::{JoinError, spawn_blocking};

/// A file, a key in a token (`pkcs11:...`), or one in a transit engine (`transit+https:...`). What is wrong with it is said
/// when it is opened, and without repeating it, so that a PIN or a token in it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKeySource(String);

/// The master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// From the file.
    #[error(transparent)]
    File(#[from] FileKeyError),
    /// It is not said where it is.
    #[error(transparent)]
    Uri(#[from] KeyUriError),
    /// From the token.
    #[error(transparent)]
    Token(#[from] TokenKeyError),
    /// It is not said where in which transit engine it is.
    #[error(transparent)]
    TransitUri(#[from] TransitUriError),
    /// From the transit engine.
    #[error(transparent)]
    Transit(#[from] TransitKeyError),
    /// The thread that opens it broke off.
    #[error("the master key could not be opened")]
    Broken(#[from] JoinError),
}

/// Which of the master keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeysError {
    /// The one that seals.
    #[error("--master-key")]
    Current(#[source] MasterKeyError),
    /// One of before.
    #[error("--old-master-key")]
    Old(#[source] MasterKeyError),
}

impl Vault {
    /// A vault that seals under `current`, which is made if it is to be in a file and is not there, and opens what was sealed
    /// under it or one of `old`.
    ///
    /// # Errors
    /// [`MasterKeysError`] names the option.
    pub async fn of_sources(
        current: &MasterKeySource,
        old: &[MasterKeySource],
        environment: &Environment,
    ) -> Result<Self, MasterKeysError> {
        let current = current.open_or_create(environment).await.map_err(MasterKeysError::Current)?;
        let mut opened = Vec::new();
        for key in old {
            opened.push(key.open().await.map_err(MasterKeysError::Old)?);
        }
        Ok(Self::new(current, opened, environment.clone()))
    }
}

impl MasterKeySource {
    /// The key; one in a file is made if there is no file. Nothing is made in a token or a transit engine.
    ///
    /// # Errors
    /// [`MasterKeyError`] says what is wrong with the file, the token or the engine.
    pub async fn open_or_create(
        &self,
        environment: &Environment,
    ) -> Result<Arc<dyn MasterKey>, MasterKeyError> {
        let environment = environment.clone();
        self.open_with(move |path| FileKey::load_or_create(path, &environment)).await
    }

    /// The key, which must be there.
    ///
    /// # Errors
    /// As [`MasterKeySource::open_or_create`].
    pub async fn open(&self) -> Result<Arc<dyn MasterKey>, MasterKeyError> {
        self.open_with(FileKey::load).await
    }

    async fn open_with(
        &self,
        open_file: impl FnOnce(&Path) -> Result<FileKey, FileKeyError> + Send + 'static,
    ) -> Result<Arc<dyn MasterKey>, MasterKeyError> {
        if TransitUri::is_meant(&self.0) {
            return Ok(Arc::new(TransitKey::open(self.0.parse()?).await?));
        }
        let text = self.0.clone();
        // A token may take its time.
        spawn_blocking(move || -> Result<Arc<dyn MasterKey>, MasterKeyError> {
            if KeyUri::is_meant(&text) {
                return Ok(Arc::new(TokenKey::open(text.parse()?)?));
            }
            Ok(Arc::new(open_file(Path::new(&text))?))
        })
        .await?
    }
}

impl FromStr for MasterKeySource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for MasterKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKeySource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_uri_is_never_taken_for_a_file_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key").display().to_string();
        let environment = Environment::system();
        let open =
            async |text: &str| text.parse::<MasterKeySource>().unwrap().open_or_create(&environment).await;
        assert!(open(&file).await.unwrap().id().starts_with("file:"));
        for uri in [
            "pkcs11:",
            "PKCS11:token=a",
            "pkcs11:token=a;object=b?pin-value=1234",
            "transit:",
            "transit+",
            "TRANSIT+https://bao",
            "transit+https://bao/transit/keys/a?token=1234",
            "transit://1234",
        ] {
            let Err(error) = open(uri).await else { unreachable!("{uri}") };
            assert!(
                matches!(error, MasterKeyError::Uri(_) | MasterKeyError::TransitUri(_)),
                "{uri}: {error}"
            );
            assert!(!error.to_string().contains("1234"), "{error}");
            assert!(!format!("{:?}", uri.parse::<MasterKeySource>()).contains("1234"));
        }
    }
}
