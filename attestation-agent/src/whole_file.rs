//! Files that are there whole, or as they were before.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Writes a file that only its owner can read, under a temporary name first: no reader sees half of it or one with
/// other permissions, and after a power failure it is the new one or the old one. The name is nobody else's: what an
/// agent that was killed has left stands in nobody's way.
///
/// # Errors
/// If `path` is no file, or cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", path.display()))
    })?;
    let mut prefix = name.to_owned();
    prefix.push(".");
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".new")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory(path))?.sync_all()
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn is_whole_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "an older and longer secret").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_has_left_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        // In a container every agent is process 1.
        fs::write(directory.path().join(format!("secret.{}.new", std::process::id())), "half").unwrap();
        write_private(&path, b"new").unwrap();
        write_private(&path, b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_a_file_is_an_error() {
        assert!(write_private(Path::new("/nonexistent/secret"), b"x").is_err());
        assert!(write_private(Path::new("/"), b"x").is_err());
        assert_eq!(directory(Path::new("secret")), Path::new("."));
    }
}
