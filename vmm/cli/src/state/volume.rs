//! The few operations by which state reaches the disk, and the orders in which they are done.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Single operations on a file system. Each is all or nothing to other processes; what survives a power cut is what
/// was synchronised.
pub trait Volume {
    /// Makes a directory that only its owner may enter.
    ///
    /// # Errors
    ///
    /// As the system says; there is one already.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a file that only its owner may read, or empties the one that is there, and fills it.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Brings a file's content, or a directory's entries, to the disk.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or directory another name, in place of the file that has it.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Volume for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

/// Suffix of what is being written and has no right to exist yet, and of what has lost it.
const UNFINISHED: &str = ".unfinished";

/// Whether a name is that of something unfinished, which may be removed.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

/// The unfinished companion of a path.
fn unfinished(path: &Path) -> io::Result<std::path::PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a name"))?;
    Ok(path.with_file_name(format!(".{name}{UNFINISHED}")))
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a parent"))
}

/// Replaces a file, or makes it: afterwards there is the old content or the new one, whatever happens.
pub fn replace_file(volume: &impl Volume, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = unfinished(path)?;
    volume.write(&temporary, bytes)?;
    volume.sync(&temporary)?;
    volume.rename(&temporary, path)?;
    volume.sync(parent(path)?)
}

/// Makes a directory with one file in it: afterwards there are both or neither.
pub fn create_dir_with(volume: &impl Volume, path: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = unfinished(path)?;
    remove_all(volume, &temporary)?;
    volume.create_dir(&temporary)?;
    let file = temporary.join(name);
    volume.write(&file, bytes)?;
    volume.sync(&file)?;
    volume.sync(&temporary)?;
    volume.rename(&temporary, path)?;
    volume.sync(parent(path)?)
}

/// Removes a directory with all that is in it: afterwards it is there as it was, or gone.
pub fn remove_dir_whole(volume: &impl Volume, path: &Path) -> io::Result<()> {
    let temporary = unfinished(path)?;
    remove_all(volume, &temporary)?;
    match volume.rename(path, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    volume.sync(parent(path)?)?;
    remove_all(volume, &temporary)
}

/// Removes a file, or a directory of files; there need be none.
pub fn remove_all(volume: &impl Volume, path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?.file_type(),
    };
    if !kind.is_dir() {
        return volume.remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_all(volume, &entry.path())?;
        } else {
            volume.remove_file(&entry.path())?;
        }
    }
    volume.remove_dir(path)
}

/// Removes what was left unfinished in a directory. Whoever calls this holds the lock under which it is written.
pub fn sweep(volume: &impl Volume, directory: &Path, keep: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| is_unfinished(name) && !keep(name)) {
            remove_all(volume, &entry.path())?;
        }
    }
    Ok(())
}
