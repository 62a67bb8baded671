//! Accepting connections over TLS, with or without certificates of clients, on a Unix socket, or in clear; all are bounded
//! and drained on shutdown.

mod certificate;
pub mod limit;
pub mod tls;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::certificate::ClientCertificate;
use self::limit::Peer;
use self::tls::Tls;

/// Without it connections could take every file descriptor, and with them the database and the admin socket.
const MAX_CONNECTIONS: usize = 512;
/// Without it a peer that never finishes its handshake would hold a connection for ever.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Without it a peer that never finishes its request head, or stays idle, would hold a connection for ever.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Without it a request head could have any size; tokens in it have a few KiB.
const MAX_HEAD: usize = 64 * 1024;
/// How long requests in progress may take after shutdown begins.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path is something else.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// Somebody listens there.
    #[error("{0} is in use: another instance is running")]
    InUse(PathBuf),
    /// The system refuses.
    #[error("cannot bind {path}")]
    Bind {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds the admin socket with mode 0600; a socket that a dead instance left behind is replaced.
///
/// # Errors
/// [`SocketError`] names the path.
pub async fn bind_admin(path: &Path) -> Result<UnixListener, SocketError> {
    let error = |source| SocketError::Bind { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(SocketError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(error)?;
        }
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(error(source)),
    }
    let listener = UnixListener::bind(path).map_err(error)?;
    // Between bind and this line the mode is the umask's; the peer's user is checked on every connection all the same.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
    Ok(listener)
}

/// Serves `router` over TLS until `shutdown` becomes true, then finishes what is in progress. Each request carries its
/// [`Peer`], and the [`ClientCertificate`] of the connection, if the client sent one that the authorities of `tls` vouch
/// for.
pub async fn public(listener: TcpListener, tls: Arc<Tls>, router: Router, shutdown: watch::Receiver<bool>) {
    let mut connections = Connections::new(shutdown);
    while let Some(((stream, address), slot)) = connections.next(|| listener.accept()).await {
        let router = router.clone().layer(Extension(Peer::from(address.ip())));
        let (acceptor, watcher) = (tls.acceptor(), connections.graceful.watcher());
        tokio::spawn(async move {
            if let Some(stream) = handshake(acceptor, stream).await {
                match stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
                    None => serve(stream, router, watcher).await,
                    Some(certificate) => match ClientCertificate::read(certificate) {
                        Some(certificate) => {
                            serve(stream, router.layer(Extension(certificate)), watcher).await;
                        }
                        // Not as somebody without a certificate: it was sent to be counted.
                        None => tracing::info!(%address, "a client's certificate cannot be read"),
                    },
                }
            }
            drop(slot);
        });
    }
    connections.drain().await;
}

/// Serves `router` in clear until `shutdown` becomes true.
pub async fn plain(listener: TcpListener, router: Router, shutdown: watch::Receiver<bool>) {
    let mut connections = Connections::new(shutdown);
    while let Some(((stream, _), slot)) = connections.next(|| listener.accept()).await {
        let (router, watcher) = (router.clone(), connections.graceful.watcher());
        tokio::spawn(async move {
            serve(stream, router, watcher).await;
            drop(slot);
        });
    }
    connections.drain().await;
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "TLS handshake"),
        Err(_) => tracing::debug!("TLS handshake timed out"),
    }
    None
}

/// Serves `router` on a Unix socket until `shutdown` becomes true. Requests of the user `uid`, as the kernel reports it,
/// carry `owner`; others do not.
pub async fn unix<E: Clone + Send + Sync + 'static>(
    listener: UnixListener,
    router: Router,
    uid: u32,
    owner: E,
    shutdown: watch::Receiver<bool>,
) {
    let mut connections = Connections::new(shutdown);
    while let Some(((stream, _), slot)) = connections.next(|| listener.accept()).await {
        // Of another user, or without credentials, a request carries nobody, and the router refuses it.
        let router = match stream.peer_cred() {
            Ok(credentials) if credentials.uid() == uid => router.clone().layer(Extension(owner.clone())),
            _ => router.clone(),
        };
        let watcher = connections.graceful.watcher();
        tokio::spawn(async move {
            serve(stream, router, watcher).await;
            drop(slot);
        });
    }
    connections.drain().await;
}

/// The connections of one listener.
struct Connections {
    graceful: GracefulShutdown,
    slots: Arc<Semaphore>,
    shutdown: watch::Receiver<bool>,
}

impl Connections {
    fn new(shutdown: watch::Receiver<bool>) -> Self {
        Self { graceful: GracefulShutdown::new(), slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)), shutdown }
    }

    /// The next connection and its slot; `None` once shutdown begins.
    async fn next<T, F: Future<Output = io::Result<T>>>(
        &mut self,
        accept: impl Fn() -> F,
    ) -> Option<(T, OwnedSemaphorePermit)> {
        let slots = Arc::clone(&self.slots);
        let next = async {
            let slot = slots.acquire_owned().await.ok()?;
            loop {
                match accept().await {
                    Ok(connection) => return Some((connection, slot)),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            next = next => next,
            // An error means that the sender is gone, which is a shutdown as well.
            _ = self.shutdown.wait_for(|stop| *stop) => None,
        }
    }

    async fn drain(self) {
        if tokio::time::timeout(DRAIN_TIME, self.graceful.shutdown()).await.is_err() {
            tracing::warn!("requests in progress were cut off");
        }
    }
}

async fn serve<I>(stream: I, router: Router, watcher: hyper_util::server::graceful::Watcher)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection");
    }
}
