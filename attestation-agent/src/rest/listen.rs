//! Where the interface can be reached: TCP, Unix sockets, vsock.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `ADDRESS:PORT`
    Tcp(SocketAddr),
    /// `unix:PATH`
    Unix(PathBuf),
    /// `vsock:PORT`: the host can reach it.
    Vsock(u32),
}

impl ListenAddress {
    /// Whether only programs in this guest can reach it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
            Self::Vsock(_) => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is not of the form ADDRESS:PORT, unix:PATH or vsock:PORT");
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(expected()) };
        }
        if let Some(port) = text.strip_prefix("vsock:") {
            return Ok(Self::Vsock(port.parse().map_err(|_| expected())?));
        }
        // secGear's documents say localhost.
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numeric.as_deref().unwrap_or(text).parse().map(Self::Tcp).map_err(|_| expected())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock(port) => write!(f, "vsock:{port}"),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Who is at the other end; limits are kept for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    Address(IpAddr),
    User(u32),
    Context(u32),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A socket that is listened on.
pub struct Listener(Socket);

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    Vsock(VsockListener),
}

impl Listener {
    /// Listens on `address`. A Unix socket belongs to the agent's user alone (mode 0600), unless `socket_mode` says
    /// otherwise; one that a dead agent left is replaced.
    ///
    /// # Errors
    /// Whatever the kernel says, or that another program listens there.
    pub async fn bind(address: &ListenAddress, socket_mode: u32) -> io::Result<Self> {
        Ok(Self(match address {
            ListenAddress::Tcp(address) => Socket::Tcp(TcpListener::bind(address).await?),
            ListenAddress::Unix(path) => Socket::Unix(bind_unix(path, socket_mode)?, path.clone()),
            ListenAddress::Vsock(port) => {
                Socket::Vsock(VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, *port))?)
            }
        }))
    }

    /// The address, with the port that was chosen if it was asked for any.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn address(&self) -> io::Result<ListenAddress> {
        Ok(match &self.0 {
            Socket::Tcp(listener) => ListenAddress::Tcp(listener.local_addr()?),
            Socket::Unix(_, path) => ListenAddress::Unix(path.clone()),
            Socket::Vsock(listener) => ListenAddress::Vsock(listener.local_addr()?.port()),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        Ok(match &self.0 {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (Box::new(stream), Peer::Address(address.ip()))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                (Box::new(stream), Peer::User(user))
            }
            Socket::Vsock(listener) => {
                let (stream, address) = listener.accept().await?;
                (Box::new(stream), Peer::Context(address.cid()))
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.0 {
            // Somebody may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there"));
        }
        // What is there is a dead agent's; the new socket takes its place below.
        _ => {}
    }
    // Bound under another name first: between bind and chmod the socket has whatever mode the umask leaves.
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_knows_which_are_local() {
        for (text, local) in [
            ("127.0.0.1:8081", true),
            ("[::1]:8081", true),
            ("unix:/run/agent.sock", true),
            ("0.0.0.0:8081", false),
            ("192.0.2.1:1", false),
            ("vsock:8081", false),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.is_local(), local, "{text}");
        }
        assert_eq!("localhost:1".parse::<ListenAddress>().unwrap().to_string(), "127.0.0.1:1");
        for text in ["", "8081", "unix:", "unix:relative", "vsock:x", "host.example:1"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_is_its_owners_alone_and_a_stale_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let address = ListenAddress::Unix(path.clone());
        // A dead agent's socket: bound, then nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&address, 0o600).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Listener::bind(&address, 0o600).await.is_err(), "a living agent was pushed aside");
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "not a socket").unwrap();
        assert!(Listener::bind(&address, 0o600).await.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"not a socket");
    }
}
