//! Locks between processes, which end with the process that holds them.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes a lock; `None` when somebody else holds it.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        Ok(try_lock(&file, FlockOperation::NonBlockingLockExclusive)?.then_some(Self { _file: file }))
    }

    /// Takes a lock, waiting for whoever holds it; `None` when that takes too long.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn take(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sleep(PAUSE);
        }
    }
}

/// A locked file to be inherited by a process, which then is alive for as long as the file is locked.
///
/// # Errors
///
/// As the system says; [`io::ErrorKind::WouldBlock`] when a process has it.
pub fn sign_of_life(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    // Whoever asks whether the process lives holds the lock for a moment, too.
    let deadline = Instant::now() + Duration::from_secs(1);
    while !try_lock(&file, FlockOperation::NonBlockingLockExclusive)? {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        sleep(PAUSE);
    }
    Ok(file)
}

/// Whether the process that inherited the file lives. There need be no file.
///
/// # Errors
///
/// As the system says.
pub fn is_alive(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    Ok(!try_lock(&file, FlockOperation::NonBlockingLockShared)?)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn one_at_a_time_and_free_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        assert!(Lock::take(&path, Duration::from_millis(50)).unwrap().is_none());
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_process_is_alive_for_as_long_as_it_has_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alive");
        assert!(!is_alive(&path).unwrap());
        let file = sign_of_life(&path).unwrap();
        let mut child =
            Command::new("sleep").arg("60").stdin(Stdio::from(file)).stdout(Stdio::null()).spawn().unwrap();
        assert!(is_alive(&path).unwrap() && is_alive(&path).unwrap());
        assert!(sign_of_life(&path).is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(&path).unwrap());
    }
}
