//! The Unix socket on which the interface is served.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use crate::Error;
use crate::endpoint::{Endpoint, inherited};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket that listens; its file goes when it is dropped.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: UnixListener,
    pub(super) file: Option<SocketFile>,
}

impl Listener {
    /// Listens at a path, in the place of a socket that nobody listens at any more, with access for its owner alone; or
    /// on a socket that listens already.
    ///
    /// # Errors
    ///
    /// [`Error::ApiSocketInUse`] or [`Error::ApiSocket`].
    pub fn open(target: &Endpoint) -> Result<Self, Error> {
        let failed = |source| Error::ApiSocket { target: target.clone(), source };
        match target {
            Endpoint::Fd(fd) => {
                let socket = inherited(*fd).and_then(listening).map_err(failed)?;
                Ok(Self { socket, file: None })
            }
            Endpoint::Path(path) => {
                if remove_stale(path).map_err(failed)? {
                    return Err(Error::ApiSocketInUse { path: path.clone() });
                }
                let socket = listen_at(path).map_err(failed)?;
                let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
                Ok(Self { socket, file: Some(SocketFile { path: path.clone(), inode }) })
            }
        }
    }
}

/// The file of a socket; removed when dropped, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}

/// Removes a socket that nobody listens at. True when somebody does.
fn remove_stale(path: &Path) -> io::Result<bool> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(false);
    }
    if UnixStream::connect(path).is_ok() {
        return Ok(true);
    }
    fs::remove_file(path)?;
    Ok(false)
}

/// The mode is set before anybody can connect.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

fn listening(socket: OwnedFd) -> io::Result<UnixListener> {
    let listens = socket_domain(&socket)? == AddressFamily::UNIX && socket_acceptconn(&socket)?;
    if listens {
        Ok(UnixListener::from(socket))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no Unix socket that listens"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn at(path: &Path) -> Result<Listener, Error> {
        Listener::open(&Endpoint::Path(path.into()))
    }

    #[test]
    fn only_its_owner_may_connect_and_the_file_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let listener = at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let first = UnixListener::bind(&path).unwrap();
        assert!(matches!(at(&path), Err(Error::ApiSocketInUse { .. })));
        assert!(path.exists());
        drop(first);
        let second = at(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(second);
        assert!(path.exists(), "what another put in its place stays");
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(at(file.path()), Err(Error::ApiSocket { .. })));
        assert!(file.path().exists());
    }

    #[test]
    fn descriptor_must_be_a_unix_socket_that_listens() {
        let directory = tempfile::tempdir().unwrap();
        let theirs = UnixListener::bind(directory.path().join("api.sock")).unwrap();
        let listener = Listener::open(&Endpoint::Fd(theirs.as_raw_fd())).unwrap();
        assert!(listener.file.is_none());
        let (one, _other) = UnixStream::pair().unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        for fd in [one.as_raw_fd(), null.as_raw_fd()] {
            assert!(matches!(Listener::open(&Endpoint::Fd(fd)), Err(Error::ApiSocket { .. })));
        }
    }
}
