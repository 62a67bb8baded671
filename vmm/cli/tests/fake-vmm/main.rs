//! A VMM without a VM, for tests: the interface of `redoubt-vmm`, strict about what it is asked.
//!
//! The kernel command line of the VM says how it fails: `fake=boot-fails`, `fake=hangs` (stops to answer once it has
//! booted), `fake=deaf` (ignores SIGTERM, and the power button), `fake=panics` (the guest crashes at once).

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod consoles;
mod machine;

use std::convert::Infallible;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::exit;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use machine::{Failure, Machine};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

fn main() {
    let mut arguments = env::args().skip(1).peekable();
    // Anything else is a test runner, which takes it for a test.
    let ours = ["--version", "--api-socket", "measure", "config"];
    if !arguments.peek().is_some_and(|first| ours.contains(&first.as_str())) {
        return;
    }
    let (mut socket, mut events, mut no_reboot) = (None, None, false);
    while let Some(argument) = arguments.next() {
        let mut path = || {
            let value = arguments.next().expect("a value");
            PathBuf::from(value.strip_prefix("path=").expect("path="))
        };
        match argument.as_str() {
            "--version" => {
                println!("redoubt-vmm 0.0.0-fake");
                return;
            }
            // What is asked for once and printed: the command line, so that tests see what was passed on.
            "measure" | "config" => {
                let rest: Vec<String> = arguments.collect();
                return machine::print(&argument, &rest);
            }
            "--api-socket" => socket = Some(path()),
            "--event-monitor" => events = Some(path()),
            "--no-reboot" => no_reboot = true,
            unknown => {
                eprintln!("error: unexpected argument '{unknown}' found");
                exit(2);
            }
        }
    }
    let (socket, events) = (socket.expect("--api-socket"), events.expect("--event-monitor"));
    let machine = Arc::new(Mutex::new(Machine::new(events, no_reboot)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(socket, machine));
}

async fn serve(socket: PathBuf, machine: Arc<Mutex<Machine>>) {
    let listener = UnixListener::bind(&socket).expect("the socket is free");
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    loop {
        let stream = tokio::select! {
            _ = terminate.recv() => {
                let mut machine = machine.lock().unwrap();
                if machine.is("deaf") {
                    continue;
                }
                machine.event("vmm", "shutdown");
                fs::remove_file(&socket).unwrap();
                exit(0);
            }
            stream = listener.accept() => stream.unwrap().0,
        };
        let machine = machine.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, machine.clone()));
            // A client that has its answer hangs up.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    machine: Arc<Mutex<Machine>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if machine.lock().unwrap().hangs() {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let result = match path.strip_prefix("/api/v1/") {
        _ if !body.is_empty() && !is_json => Err((400, "the body is not application/json".to_owned())),
        Some(call) if method == Method::GET && body.is_empty() => machine.lock().unwrap().get(call),
        Some(call) if method == Method::PUT => machine.lock().unwrap().put(call, &body),
        Some(_) => Err((400, format!("{method} is neither GET nor PUT, or has a body"))),
        None => Err((404, format!("{path} is not known"))),
    };
    Ok(match result {
        Ok(None) => response(StatusCode::NO_CONTENT, Vec::new()),
        Ok(Some(value)) => response(StatusCode::OK, serde_json::to_vec(&value).unwrap()),
        Err(failure) => refuse(&failure),
    })
}

fn refuse((status, reason): &Failure) -> Response<Full<Bytes>> {
    let reasons = ["the fake refuses", reason.as_str()];
    response(StatusCode::from_u16(*status).unwrap(), serde_json::to_vec(&reasons).unwrap())
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    if !body.is_empty() {
        response = response.header(CONTENT_TYPE, "application/json");
    }
    response.body(Full::new(body.into())).unwrap()
}
