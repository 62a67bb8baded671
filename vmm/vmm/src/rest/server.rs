//! The thread that serves the interface.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::calls::{self, Refusal, Request};
use super::connections::{Connection, Connections, Shared};
use super::listener::{Listener, SocketFile};
use super::response::{self, HttpResponse};
use super::stream::{Descriptors, FdStream};
use crate::Error;
use crate::control::{ControlError, Handle};

/// Longest body. A configuration with thousands of devices is shorter; without the bound a client could take all memory.
const LONGEST_BODY: usize = 4 << 20;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How long answers that are due have to be sent when the VMM ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Most headers of a request.
const MOST_HEADERS: usize = 64;

/// Serves the interface until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
    _file: Option<SocketFile>,
}

impl Server {
    /// Serves `listener` on a thread of its own, which calls `bind` before it serves anybody.
    ///
    /// # Errors
    ///
    /// [`Error::Api`], or that of `bind`.
    pub fn start(
        listener: Listener,
        handle: Handle,
        bind: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let Listener { socket, file } = listener;
        let (stop, stopped) = watch::channel(false);
        let (ready, started) = sync_channel(1);
        let serve = move || {
            let prepared = prepare(socket).map_err(Error::Api).and_then(|prepared| bind().map(|()| prepared));
            match prepared {
                Ok((runtime, socket)) => {
                    let _ = ready.send(Ok(()));
                    LocalSet::new().block_on(&runtime, accept(socket, handle, stopped));
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        };
        let thread = devices::threads::spawn("api", serve).map_err(Error::Thread)?;
        let vanished = |_| Error::Api(io::Error::other("its thread ended"));
        started.recv().map_err(vanished)??;
        Ok(Self { stop: Some(stop), thread: Some(thread), _file: file })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the REST interface panicked");
        }
    }
}

/// What the filter of the thread would not allow any more.
fn prepare(socket: std::os::unix::net::UnixListener) -> io::Result<(runtime::Runtime, UnixListener)> {
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    socket.set_nonblocking(true)?;
    let _context = runtime.enter();
    let socket = UnixListener::from_std(socket)?;
    Ok((runtime, socket))
}

/// Takes connections until `stopped`, and then waits until those that have an answer due have sent it.
async fn accept(socket: UnixListener, handle: Handle, stopped: watch::Receiver<bool>) {
    let connections = Shared::default();
    let mut stopping = stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            // The sender is dropped when it is time.
            _ = stopping.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => match Connections::admit(&connections) {
                Some(connection) => {
                    let serving = serve(stream, Rc::new(connection), handle.clone(), stopped.clone());
                    tokio::task::spawn_local(serving);
                }
                None => tracing::warn!(
                    "a client of the REST interface was turned away: all connections are at work"
                ),
            },
            Err(error) => {
                tracing::warn!("a client of the REST interface was lost: {error}");
                // Descriptors may be short; they come back when clients go.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    let all_gone = async {
        while !Connections::is_empty(&connections) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(LAST_WORDS, all_gone).await.is_err() {
        tracing::warn!("the VMM ends while clients of the REST interface wait for answers");
    }
}

/// Serves one connection until its client goes, it makes room for another, or the VMM ends.
async fn serve(
    stream: UnixStream,
    connection: Rc<Connection>,
    handle: Handle,
    mut stopped: watch::Receiver<bool>,
) {
    let descriptors = Descriptors::default();
    let evicted = connection.evicted();
    let service = service_fn({
        let descriptors = Rc::clone(&descriptors);
        move |request| {
            let (connection, handle) = (Rc::clone(&connection), handle.clone());
            let descriptors = Rc::clone(&descriptors);
            async move { Ok::<_, Infallible>(respond(request, &connection, &handle, &descriptors).await) }
        }
    });
    let serving = http1::Builder::new()
        // A client may close its side when it has asked.
        .half_close(true)
        .max_headers(MOST_HEADERS)
        .serve_connection(FdStream::new(stream, descriptors), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = evicted.notified() => {
            tracing::debug!("the connection that was idle for longest makes room for another");
            return;
        }
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        let error: &dyn std::error::Error = &error;
        tracing::debug!(error, "a client of the REST interface broke off");
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    connection: &Rc<Connection>,
    handle: &Handle,
    descriptors: &Descriptors,
) -> HttpResponse {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let call = match calls::find(request.method().as_str(), path) {
        Ok(call) => call,
        Err(refusal) => return closing(response::refusal(&refusal), &request, descriptors),
    };
    let too_long = request.body().size_hint().lower() > LONGEST_BODY as u64;
    if too_long {
        return closing(response::refusal(&length_refusal(call.path)), &request, descriptors);
    }
    let body = match read_body(call.path, request.into_body()).await {
        Ok(body) => body,
        Err(refusal) => {
            descriptors.take();
            return response::refusal(&refusal);
        }
    };
    let request = Request { body: &body, descriptors: descriptors.take() };
    let action = match call.decode(request) {
        Ok(action) => action,
        Err(refusal) => return response::refusal(&refusal),
    };
    let _work = connection.work();
    let (sender, answer) = oneshot::channel();
    // Who has gone meanwhile does not need the answer.
    let reply = Box::new(move |answer| drop(sender.send(answer)));
    let answer = match handle.ask(action, reply) {
        Ok(()) => answer.await.unwrap_or(Err(ControlError::Ending)),
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => response::answer(&answer),
        Err(error) => response::refused(&error),
    }
}

/// The answer to a request whose body is not read: the connection cannot be used again.
fn closing(
    mut response: HttpResponse,
    request: &hyper::Request<Incoming>,
    descriptors: &Descriptors,
) -> HttpResponse {
    descriptors.take();
    if !request.body().is_end_stream() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn read_body(path: &'static str, body: Incoming) -> Result<Bytes, Refusal> {
    let refusal = |reason: String| Refusal { status: 400, reasons: vec![format!("{path}: {reason}")] };
    match timeout(BODY_TIME, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(length_refusal(path)),
        Ok(Err(error)) => Err(refusal(format!("the body cannot be read: {error}"))),
        Err(_) => Err(refusal(format!("the body did not come within {} s", BODY_TIME.as_secs()))),
    }
}

fn length_refusal(path: &'static str) -> Refusal {
    let reason = format!("{path}: found a body of more than {LONGEST_BODY} bytes, which is the most");
    Refusal { status: 400, reasons: vec![reason] }
}
