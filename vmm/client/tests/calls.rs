//! The client against a server that answers what a test tells it to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use api::VmConfig;
use api::config::{DiskConfig, NetConfig};
use api::message::{VmResize, VmState};
use client::{Client, Failure, Timeouts};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

/// What arrived.
struct Request {
    line: String,
    head: String,
    body: String,
    fds: Vec<OwnedFd>,
}

struct Server {
    directory: TempDir,
    thread: Option<JoinHandle<Request>>,
}

impl Server {
    /// Takes one request and answers these bytes.
    fn answering(answer: impl Into<String>) -> Self {
        Self::with(answer.into(), |stream, answer| stream.write_all(answer.as_bytes()).unwrap())
    }

    fn with(answer: String, reply: fn(&mut UnixStream, &str)) -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("api.sock")).unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = receive(&mut stream);
            reply(&mut stream, &answer);
            request
        });
        Self { directory, thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    fn client(&self) -> Client {
        Client::new(self.socket())
            .with_timeouts(Timeouts { quick: Duration::from_millis(500), slow: Duration::from_secs(5) })
    }

    fn request(mut self) -> Request {
        self.thread.take().unwrap().join().unwrap()
    }
}

fn receive(stream: &mut UnixStream) -> Request {
    let (mut bytes, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let got = recvmsg(stream.as_fd(), &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        bytes.extend_from_slice(&buffer[..got.bytes]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() == length {
                let line = head.lines().next().unwrap().to_owned();
                return Request { line, head: head.to_owned(), body: body.to_owned(), fds };
            }
        }
        assert!(got.bytes > 0, "the client broke off: {text}");
    }
}

fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nServer: Cloud Hypervisor API\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\nServer: Cloud Hypervisor API\r\n\r\n";

#[test]
fn questions_are_get_and_their_answer_is_typed() {
    let server = Server::answering(json(
        "200 OK",
        r#"{"config":{"payload":{"kernel":"/k"}},"state":"Running","memory_actual_size":5}"#,
    ));
    let info = server.client().info().unwrap();
    assert_eq!((info.state, info.memory_actual_size), (VmState::Running, Some(5)));
    let request = server.request();
    assert_eq!(request.line, "GET /api/v1/vm.info HTTP/1.1");
    assert!(request.body.is_empty() && !request.head.to_lowercase().contains("content-type"));
}

#[test]
fn changes_are_put_with_a_body_or_with_none() {
    let server = Server::answering(NO_CONTENT);
    server.client().create(&VmConfig::booting("/k".into())).unwrap();
    let request = server.request();
    assert_eq!(request.line, "PUT /api/v1/vm.create HTTP/1.1");
    assert_eq!(serde_json::from_str::<VmConfig>(&request.body).unwrap(), VmConfig::booting("/k".into()));

    let server = Server::answering(NO_CONTENT);
    server.client().boot().unwrap();
    let request = server.request();
    assert_eq!(request.line, "PUT /api/v1/vm.boot HTTP/1.1");
    assert!(request.body.is_empty());

    let server = Server::answering(NO_CONTENT);
    server.client().resize(&VmResize { desired_vcpus: Some(2), ..VmResize::default() }).unwrap();
    assert_eq!(server.request().body, r#"{"desired_vcpus":2}"#);

    let server = Server::answering(NO_CONTENT);
    server.client().remove_device("net0").unwrap();
    assert_eq!(server.request().body, r#"{"id":"net0"}"#);
}

#[test]
fn an_addition_answers_an_address_or_nothing() {
    let server = Server::answering(json("200 OK", r#"{"id":"vdb","bdf":"0000:00:06.0"}"#));
    let added = server.client().add_disk(&DiskConfig::default()).unwrap().unwrap();
    assert_eq!((added.id.as_str(), added.bdf.as_str()), ("vdb", "0000:00:06.0"));

    let server = Server::answering(NO_CONTENT);
    assert!(server.client().add_disk(&DiskConfig::default()).unwrap().is_none());
}

#[test]
fn descriptors_go_with_the_request_once() {
    let server = Server::answering(NO_CONTENT);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"it is this one").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let second = tempfile::tempfile().unwrap();
    server.client().add_net(&NetConfig::default(), vec![file.into(), second.into()]).unwrap();
    let mut request = server.request();
    assert_eq!(request.line, "PUT /api/v1/vm.add-net HTTP/1.1");
    assert_eq!(request.fds.len(), 2);
    let mut text = String::new();
    File::from(request.fds.remove(0)).read_to_string(&mut text).unwrap();
    assert_eq!(text, "it is this one");
}

#[test]
fn a_refusal_carries_status_and_reasons() {
    let server = Server::answering(json("400 Bad Request", r#"["The VM cannot be created","no kernel"]"#));
    let error = server.client().create(&VmConfig::booting("/k".into())).unwrap_err();
    assert_eq!(error.status(), Some(400));
    let Failure::Refused { messages, .. } = &error.failure else { panic!("{error:?}") };
    assert_eq!(messages, &["The VM cannot be created", "no kernel"]);
    assert!(error.to_string().starts_with("vm.create at "), "{error}");
    assert_eq!(error.failure.to_string(), "status 400: The VM cannot be created: no kernel");
}

#[test]
fn silence_ends_in_time() {
    let server = Server::with(String::new(), |_, _| thread::sleep(Duration::from_secs(2)));
    let begin = Instant::now();
    let error = server.client().ping().unwrap_err();
    assert!(matches!(error.failure, Failure::Timeout { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn nobody_there_is_told_from_somebody_who_fails() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("api.sock");
    assert!(Client::new(&socket).ping().unwrap_err().is_absent());
    drop(UnixListener::bind(&socket).unwrap());
    assert!(Client::new(&socket).ping().unwrap_err().is_absent());

    for answer in ["", "not HTTP at all\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        let server = Server::answering(answer);
        let error = server.client().ping().unwrap_err();
        assert!(!error.is_absent() && error.status().is_none(), "{error:?}");
    }
}

#[test]
fn an_answer_of_another_shape_or_without_end_is_an_error() {
    let server = Server::answering(json("200 OK", r#"{"version":1}"#));
    let error = server.client().ping().unwrap_err();
    assert!(matches!(error.failure, Failure::Answer { .. }), "{error:?}");

    let server = Server::with(String::new(), |stream, _| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
    });
    let client = server
        .client()
        .with_timeouts(Timeouts { quick: Duration::from_secs(60), slow: Duration::from_secs(60) });
    let error = client.ping().unwrap_err();
    assert!(error.failure.to_string().contains("longer than"), "{error:?}");
}
