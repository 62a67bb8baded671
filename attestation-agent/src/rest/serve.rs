//! HTTP of the local interface: connections, limits, headers.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Body;
use super::listen::{Listener, Peer, Stream};
use super::peers::{Peers, Slot};
use super::problem::Problem;

/// Longest request head read, in bytes. Without the bound any program in the guest could make the agent run out of
/// memory.
const MAX_HEAD_LEN: usize = 16 * 1024;
/// Most connections at a time; further ones wait. Without the bound, idle connections use up the file descriptors.
const MAX_CONNECTIONS: usize = 64;
/// Most requests at a time of those that take turns; further ones wait. With evidence, their bodies can be tens of megabytes,
/// and all connections together would take all memory.
const MAX_TURNS: usize = 2;
/// Time for a request to arrive; without it, [`MAX_CONNECTIONS`] silent programs keep everyone else out.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Pause after a failure to accept; without it a lasting failure would take the whole CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time to finish what was begun when the daemon is asked to stop.
const SHUTDOWN_TIME: Duration = Duration::from_secs(5);

/// What can be asked for on listeners, with `GET` or `POST`.
pub trait Interface: Send + Sync + 'static {
    /// A path that there is.
    type Path: Copy + Send + Sync;

    /// The paths, for whoever asks for another.
    fn paths() -> Vec<&'static str>;

    /// The path of this name.
    fn find(path: &str) -> Option<Self::Path>;

    /// What bounds a request for it.
    fn bounds(path: Self::Path) -> Bounds;

    /// Answers a request.
    fn answer(
        &self,
        path: Self::Path,
        query: Option<&str>,
        body: &[u8],
    ) -> impl Future<Output = Result<Body, Problem>> + Send;
}

/// What bounds a request.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest body, in bytes.
    pub body: usize,
    /// Whether such requests take turns: they need much memory, or a device that does one thing at a time.
    pub takes_turns: bool,
    /// Whether one program may have few of them in a second.
    pub scarce: bool,
}

/// Answers requests on all `listeners` until `shutdown` completes.
pub async fn serve<I: Interface>(
    interface: Arc<I>,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(());
    let server = Server {
        interface,
        slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        turns: Arc::new(Semaphore::new(MAX_TURNS)),
        peers: Peers::default(),
    };
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(server.clone().listen(listener, stopping.clone()));
    }
    shutdown.await;
    drop(stop);
    while tasks.join_next().await.is_some() {}
}

struct Server<I> {
    interface: Arc<I>,
    slots: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    peers: Peers,
}

impl<I> Clone for Server<I> {
    fn clone(&self) -> Self {
        let Self { interface, slots, turns, peers } = self;
        Self {
            interface: Arc::clone(interface),
            slots: Arc::clone(slots),
            turns: Arc::clone(turns),
            peers: peers.clone(),
        }
    }
}

impl<I: Interface> Server<I> {
    async fn listen(self, listener: Listener, mut stopping: watch::Receiver<()>) {
        let mut connections = JoinSet::new();
        loop {
            let accept = async {
                let slot = self.slots.clone().acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|(stream, peer)| (stream, peer, slot))
            };
            let (stream, peer, slot) = tokio::select! {
                // An error: the sender is gone, which is how it stops.
                _ = stopping.changed() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // A connection lost before it was accepted, or file descriptors short for a moment.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let server = self.clone();
            connections.spawn(async move {
                server.converse(stream, peer).await;
                drop(slot);
            });
        }
        drop(listener);
        let finished =
            tokio::time::timeout(SHUTDOWN_TIME, async { while connections.join_next().await.is_some() {} });
        if finished.await.is_err() {
            tracing::warn!("stopped with requests unanswered");
        }
    }

    async fn converse(&self, stream: Box<dyn Stream>, peer: Peer) {
        let Some(slot) = self.peers.connect(peer, Instant::now()) else {
            tracing::warn!(?peer, "closed a connection of a program that has too many");
            return;
        };
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.respond(&slot, request).await) });
        let result = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIME)
            .max_buf_size(MAX_HEAD_LEN)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = result {
            tracing::debug!(%error, "a local connection failed");
        }
    }

    async fn respond(&self, slot: &Slot, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let result = self.route(slot, request).await;
        // Parameters and answers stay out of the log: they hold tokens and secrets.
        match &result {
            Ok(_) => tracing::info!(%method, path, "answered"),
            Err(problem) => {
                tracing::warn!(%method, path, code = problem.code, detail = problem.detail, "refused");
            }
        }
        let (status, content_type, body) = match result {
            Ok(Body::Text(text)) => (StatusCode::OK, "text/plain; charset=utf-8", Bytes::from(text)),
            Ok(Body::Json(json)) => {
                (StatusCode::OK, "application/json", Bytes::copy_from_slice(json.as_bytes()))
            }
            Err(problem) => (problem.status, "application/problem+json", Bytes::from(problem.to_json())),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    async fn route(&self, slot: &Slot, request: Request<Incoming>) -> Result<Body, Problem> {
        let path = I::find(request.uri().path());
        let bounds = path.map(I::bounds);
        if !slot.request(bounds.is_some_and(|bounds| bounds.scarce), Instant::now()) {
            return Err(Problem::rate_limited());
        }
        let (Some(path), Some(bounds)) = (path, bounds) else { return Err(Problem::not_found(&I::paths())) };
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return Err(Problem::method_not_allowed());
        }
        let query = request.uri().query().map(str::to_owned);
        let _permit = if bounds.takes_turns { self.turns.acquire().await.ok() } else { None };
        let body = read(request, bounds.body).await?;
        self.interface.answer(path, query.as_deref(), &body).await
    }
}

async fn read(request: Request<Incoming>, limit: usize) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(REQUEST_TIME, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(limit)),
        Ok(Err(error)) => Err(Problem::request(format!("the body did not arrive: {error}"))),
        Err(_) => {
            Err(Problem::request(format!("the body did not arrive within {} s", REQUEST_TIME.as_secs())))
        }
    }
}
