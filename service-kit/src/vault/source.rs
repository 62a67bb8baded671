//! Where a master key comes from, as operators say it.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::pkcs11::{KeyUri, KeyUriError, TokenKey, TokenKeyError};
use super::{FileKey, FileKeyError, MasterKey};
use crate::environment::Environment;

/// A file, or a key in a token (`pkcs11:...`). What is wrong with it is said when it is opened, and without repeating it, so
/// that a PIN in it is not shown.
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
}

impl MasterKeySource {
    /// The key; one in a file is made if there is no file. Nothing is made in a token.
    ///
    /// # Errors
    /// [`MasterKeyError`] says what is wrong with the file or the token.
    pub fn open_or_create(&self, environment: &Environment) -> Result<Arc<dyn MasterKey>, MasterKeyError> {
        if KeyUri::is_meant(&self.0) {
            return self.open();
        }
        Ok(Arc::new(FileKey::load_or_create(Path::new(&self.0), environment)?))
    }

    /// The key, which must be there.
    ///
    /// # Errors
    /// As [`MasterKeySource::open_or_create`].
    pub fn open(&self) -> Result<Arc<dyn MasterKey>, MasterKeyError> {
        if KeyUri::is_meant(&self.0) {
            return Ok(Arc::new(TokenKey::open(self.0.parse()?)?));
        }
        Ok(Arc::new(FileKey::load(Path::new(&self.0))?))
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

    #[test]
    fn a_uri_is_never_taken_for_a_file_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key").display().to_string();
        let environment = Environment::system();
        let open = |text: &str| text.parse::<MasterKeySource>().unwrap().open_or_create(&environment);
        assert!(open(&file).unwrap().id().starts_with("file:"));
        for uri in ["pkcs11:", "PKCS11:token=a", "pkcs11:token=a;object=b?pin-value=1234"] {
            let Err(error) = open(uri) else { unreachable!("{uri}") };
            assert!(matches!(error, MasterKeyError::Uri(_)), "{error}");
            assert!(!error.to_string().contains("1234"), "{error}");
            assert!(!format!("{:?}", uri.parse::<MasterKeySource>()).contains("1234"));
        }
    }
}
