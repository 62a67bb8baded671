//! Files that hold secrets: nobody else can read them, and what is made here has mode 0600 from the first moment.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Without it a wrong path could make the service read a disk into memory.
const MAX_LEN: u64 = 64 * 1024;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be created or read.
    #[error("cannot create or read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} has mode {mode:04o}, so other users can reach the secrets in it; run chmod 600 on it")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no small text file.
    #[error("{path} has more than {MAX_LEN} bytes, so it is not the file that was meant")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

fn error(path: &Path) -> impl Fn(io::Error) -> PrivateFileError {
    move |source| PrivateFileError::File { path: path.to_owned(), source }
}

/// Whether there is a file at `path`.
///
/// # Errors
/// If there is one that others can read, or it cannot be looked at.
pub fn exists(path: &Path) -> Result<bool, PrivateFileError> {
    match fs::metadata(path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o7777;
            if mode & 0o077 != 0 {
                return Err(PrivateFileError::Mode { path: path.to_owned(), mode });
            }
            Ok(true)
        }
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(error(path)(source)),
    }
}

/// Reads a text.
///
/// # Errors
/// If others can read it, or it cannot be read.
pub fn read(path: &Path) -> Result<Zeroizing<String>, PrivateFileError> {
    if !exists(path)? {
        return Err(error(path)(io::ErrorKind::NotFound.into()));
    }
    if fs::metadata(path).map_err(error(path))?.len() > MAX_LEN {
        return Err(PrivateFileError::TooLong { path: path.to_owned() });
    }
    Ok(Zeroizing::new(fs::read_to_string(path).map_err(error(path))?))
}

/// Makes an empty file, unless there is one already.
///
/// # Errors
/// If there is one that others can read, or it cannot be made.
pub fn ensure(path: &Path) -> Result<(), PrivateFileError> {
    match create(path, &[]) {
        // Another instance may be making it at this moment.
        Err(PrivateFileError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            exists(path).map(drop)
        }
        made => made,
    }
}

/// Makes a file with this content, durably.
///
/// # Errors
/// If it exists or cannot be written.
pub fn create(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(error(path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(error(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_or_open_to_others_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let longest = usize::try_from(MAX_LEN).unwrap();
        create(&path, &vec![b'a'; longest]).unwrap();
        assert_eq!(read(&path).unwrap().len(), longest);
        fs::write(&path, vec![b'a'; longest + 1]).unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::TooLong { .. })));
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::Mode { mode: 0o640, .. })));
        assert!(matches!(ensure(&path), Err(PrivateFileError::Mode { mode: 0o640, .. })));
        fs::remove_file(&path).unwrap();
        ensure(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        ensure(&path).unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "kept");
    }
}
