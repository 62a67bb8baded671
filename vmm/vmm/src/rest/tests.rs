//! The interface as clients see it: bytes on a socket.

use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use super::*;
use crate::control::fake::{Director, FakeRuntime};
use crate::control::{Control, Outcome, Policy};
use crate::endpoint::Endpoint;
use crate::monitor::EventMonitor;

/// How long a client waits before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Service {
    path: PathBuf,
    director: Director,
    control: Option<JoinHandle<Outcome>>,
    _directory: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let listener = Listener::open(&Endpoint::Path(path.clone())).unwrap();
        let director = Director::default();
        let runtime = FakeRuntime(director.0.clone());
        let policy = Policy { no_shutdown: true, ..Policy::default() };
        let control = thread::spawn(move || {
            let mut control = Control::new(runtime, policy, EventMonitor::off());
            let _server = Server::start(listener, control.handle(), || Ok(())).unwrap();
            control.run().unwrap()
        });
        Self { path, director, control: Some(control), _directory: directory }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, method: &str, name: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request(method, name, body).as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    fn put(&self, name: &str, body: &Value) -> Answer {
        self.ask("PUT", name, &body.to_string())
    }

    fn created() -> Self {
        let service = Self::start();
        let config = json!({"payload": {"kernel": "/k"}, "disks": [{"path": "/a"}]});
        assert_eq!(service.put("vm.create", &config).status, 204);
        service
    }

    fn booted() -> Self {
        let service = Self::created();
        assert_eq!(service.ask("PUT", "vm.boot", "").status, 204);
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            let _ = self.connect().write_all(request("PUT", "vmm.shutdown", "").as_bytes());
            control.join().unwrap();
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The reasons of a refusal, in one line.
    fn reasons(&self) -> String {
        let reasons: Vec<String> = serde_json::from_str(&self.body).unwrap();
        assert!(!reasons.is_empty());
        reasons.join(" / ")
    }
}

fn request(method: &str, name: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {BASE}{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// One answer, byte by byte where its length is not known yet.
fn read_answer(stream: &mut UnixStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        });
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

fn send_with_descriptors(stream: &UnixStream, bytes: &str, descriptors: &[BorrowedFd<'_>]) {
    let message = SendAncillaryMessage::ScmRights(descriptors);
    let mut space = vec![std::mem::MaybeUninit::uninit(); message.size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(message));
    let sent = sendmsg(stream, &[IoSlice::new(bytes.as_bytes())], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}

#[test]
fn ping_tells_who_answers() {
    let service = Service::start();
    let answer = service.ask("GET", "vmm.ping", "");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let ping = answer.json();
    assert_eq!(ping["pid"], std::process::id());
    assert!(ping["version"].is_string() && ping["build_version"].is_string() && ping["features"].is_array());
}

#[test]
fn vm_is_directed_through_its_life() {
    let service = Service::created();
    let state = || service.ask("GET", "vm.info", "").json()["state"].clone();
    assert_eq!(state(), "Created");
    for (name, expected) in [
        ("vm.boot", "Running"),
        ("vm.pause", "Paused"),
        ("vm.resume", "Running"),
        ("vm.reboot", "Running"),
        ("vm.shutdown", "Shutdown"),
    ] {
        let answer = service.ask("PUT", name, "");
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{name}");
        assert_eq!(state(), expected, "{name}");
    }
    assert_eq!(service.ask("PUT", "vm.delete", "").status, 204);
    assert_eq!(service.ask("PUT", "vm.delete", "").status, 204, "also when there is none");
}

#[test]
fn every_status_code_is_for_its_reason() {
    let service = Service::start();
    let put = |name: &str, body: &Value| service.put(name, body);
    // 404: no such path, no VM, no such device.
    assert!(service.ask("PUT", "vm.snapshot", "{}").reasons().contains("vm.snapshot"));
    for (method, name) in [("PUT", "vm.fly"), ("GET", "vm.info"), ("PUT", "vm.boot"), ("GET", "vm.counters")]
    {
        assert_eq!(service.ask(method, name, "").status, 404, "{name}");
    }
    assert_eq!(service.ask("GET", "vm.info?full=1", "").status, 404);
    // 400: the request, and the configuration.
    assert_eq!(service.ask("GET", "vm.boot", "").status, 400);
    assert_eq!(service.ask("DELETE", "vm.delete", "").status, 400);
    assert_eq!(service.ask("PUT", "vm.boot", "{}").status, 400);
    assert_eq!(service.ask("PUT", "vm.create", "").status, 400);
    assert_eq!(service.ask("PUT", "vm.create", "{").status, 400);
    assert_eq!(service.ask("PUT", "vm.create", "{\"payload\":{\"kernel\":\"/k\"}} x").status, 400);
    let wrong = put("vm.create", &json!({"payload": {"kernel": "/k"}, "cpus": {"boot_vcpus": 0}}));
    assert_eq!(wrong.status, 400);
    assert!(wrong.reasons().contains("cpus.boot_vcpus"), "{}", wrong.body);
    // 409: a name that is taken.
    let twice = json!([{"path": "/a", "id": "a"}, {"path": "/b", "id": "a"}]);
    assert_eq!(put("vm.create", &json!({"payload": {"kernel": "/k"}, "disks": twice})).status, 409);
    // 204 without a body.
    let config = json!({"payload": {"kernel": "/k"}, "disks": [{"path": "/a", "id": "a"}]});
    assert_eq!(put("vm.create", &config).status, 204);
    assert_eq!(put("vm.add-disk", &json!({"path": "/b", "id": "a"})).status, 409);
    assert_eq!(put("vm.remove-device", &json!({"id": "b"})).status, 404);
    // 500: everything else.
    assert_eq!(put("vm.create", &config).status, 500);
    let paused = service.ask("PUT", "vm.pause", "");
    assert_eq!(paused.status, 500);
    assert!(paused.reasons().contains("vm.pause: the VM is Created, expected Running"), "{}", paused.body);
    service.director.set(|shared| shared.broken = true);
    let failed = service.ask("PUT", "vm.boot", "");
    assert_eq!(failed.status, 500);
    let reasons: Vec<String> = serde_json::from_str(&failed.body).unwrap();
    assert_eq!(reasons[0], "vm.boot failed", "outermost first");
    assert!(reasons[1].contains("0x1000"), "{reasons:?}");
}

#[test]
fn unknown_field_is_named_at_every_depth() {
    let service = Service::start();
    for (body, place) in [
        (json!({"payload": {"kernel": "/k"}, "surprise": 1}), "surprise"),
        (json!({"payload": {"kernel": "/k", "surprise": 1}}), "payload.surprise"),
        (
            json!({"payload": {"kernel": "/k"}, "disks": [{"path": "/a"}, {"surprise": 1}]}),
            "disks[1].surprise",
        ),
        (
            json!({"payload": {"kernel": "/k"}, "net": [{"rate_limiter_config": {"ops": {"surprise": 1}}}]}),
            "net[0].rate_limiter_config.ops.surprise",
        ),
        (json!({"payload": {"kernel": "/k"}, "net": [{"fds": [3]}]}), "net[0].fds"),
    ] {
        let answer = service.put("vm.create", &body);
        assert_eq!(answer.status, 400);
        assert!(answer.reasons().contains(place), "{place} in {}", answer.body);
    }
    let answer = service.put("vm.resize", &json!({"desired_vcpu": 1}));
    assert_eq!(answer.status, 400);
    assert!(answer.reasons().contains("desired_vcpu`"), "{}", answer.body);
    let answer = service.put("vm.create", &json!({"payload": {"kernel": "/k"}, "memory": {"size": "1G"}}));
    assert!(answer.reasons().contains("memory.size: invalid type"), "{}", answer.body);
}

#[test]
fn body_has_a_limit_whether_or_not_its_length_is_told() {
    let service = Service::start();
    let mut stream = service.connect();
    let head = format!("PUT {BASE}vm.create HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4194305\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let answer = read_answer(&mut stream);
    assert_eq!(answer.status, 400, "before a byte of it was sent");
    assert!(answer.reasons().contains("4194304"), "{}", answer.body);

    let mut stream = service.connect();
    let head =
        format!("PUT {BASE}vm.create HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut chunk = format!("{:x}\r\n", 1 << 20).into_bytes();
    chunk.resize(chunk.len() + (1 << 20), b' ');
    chunk.extend_from_slice(b"\r\n");
    for _ in 0..5 {
        // The answer may come, and the connection go, before all is sent.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(read_answer(&mut stream).status, 400);

    let long = " ".repeat((4 << 20) - 100);
    let answer = service.ask("PUT", "vm.create", &format!("{long}{{\"payload\":{{\"kernel\":\"/k\"}}}}"));
    assert_eq!(answer.status, 204, "{}", answer.body);
}

#[test]
fn descriptors_come_with_the_request_that_takes_them() {
    let service = Service::created();
    let (mut alive, end) = UnixStream::pair().unwrap();
    alive.set_read_timeout(Some(PATIENCE)).unwrap();
    let add = request("PUT", "vm.add-net", &json!({"id": "net_0", "num_queues": 2}).to_string());
    let mut stream = service.connect();
    send_with_descriptors(&stream, &add, &[end.as_fd()]);
    assert_eq!(read_answer(&mut stream).status, 204);
    drop(end);
    // The fake looks at the descriptors when it launches.
    assert_eq!(service.ask("PUT", "vm.boot", "").status, 204);
    assert_eq!(service.ask("PUT", "vm.delete", "").status, 204);
    assert_eq!(alive.read(&mut [0]).unwrap(), 0, "closed with the VM");
}

#[test]
fn descriptors_that_nobody_takes_are_refused_and_closed() {
    let service = Service::created();
    for (method, name, body) in [
        ("PUT", "vm.add-disk", "{\"path\":\"/b\"}"),
        ("GET", "vmm.ping", ""),
        ("PUT", "vm.fly", ""),
        ("PUT", "vm.add-net", "{\"num_queues\":4}"),
    ] {
        let (mut alive, end) = UnixStream::pair().unwrap();
        alive.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = service.connect();
        send_with_descriptors(&stream, &request(method, name, body), &[end.as_fd()]);
        drop(end);
        let answer = read_answer(&mut stream);
        assert!(matches!(answer.status, 400 | 404), "{name}: {answer:?}");
        assert_eq!(alive.read(&mut [0]).unwrap(), 0, "{name}: closed");
        // The connection goes on, and the next request has none of them.
        if answer.status == 400 {
            stream.write_all(request("GET", "vmm.ping", "").as_bytes()).unwrap();
            assert_eq!(read_answer(&mut stream).status, 200);
        }
    }
    assert_eq!(service.ask("GET", "vm.info", "").json()["config"]["net"], Value::Null);
}

#[test]
fn more_descriptors_than_a_request_can_have_end_the_connection() {
    let service = Service::created();
    let null = std::fs::File::open("/dev/null").unwrap();
    let many = vec![null.as_fd(); 200];
    let mut stream = service.connect();
    let head = format!("PUT {BASE}vm.add-net HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n");
    send_with_descriptors(&stream, &head, &many);
    thread::sleep(Duration::from_millis(50));
    send_with_descriptors(&stream, "{", &many);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 2"));
    assert_eq!(service.ask("GET", "vmm.ping", "").status, 200);
}

#[test]
fn booted_vm_answers_where_devices_are_and_what_they_count() {
    let service = Service::booted();
    let info = service.ask("GET", "vm.info", "").json();
    assert_eq!(info["device_tree"]["_disk0"]["pci_bdf"], "0000:00:01.0");
    let counters = service.ask("GET", "vm.counters", "").json();
    assert_eq!(counters["_disk0"]["read_bytes"], 512);
    let refused = service.put("vm.add-disk", &json!({"path": "/b"}));
    assert_eq!(refused.status, 500);
    service.director.set(|shared| shared.hot_plug = true);
    let added = service.put("vm.add-disk", &json!({"path": "/b", "id": "b"}));
    assert_eq!((added.status, added.json()), (200, json!({"id": "b", "bdf": "0000:01:00.0"})));
    assert_eq!(service.put("vm.resize", &json!({"desired_vcpus": 9})).status, 400);
    assert_eq!(service.put("vm.resize", &json!({"desired_ram": 4096})).status, 400);
    let resize = json!({"id": "_disk0", "desired_size": 1 << 20});
    assert_eq!(service.put("vm.resize-disk", &resize).status, 204);
    assert_eq!(service.ask("PUT", "vm.power-button", "").status, 500);
}

#[test]
fn metrics_are_text_whether_or_not_there_is_a_vm() {
    let scrape = |service: &Service| {
        let mut stream = service.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        read_answer(&mut stream)
    };
    let empty = scrape(&Service::start());
    assert_eq!(empty.status, 200);
    assert!(empty.head.contains("content-type: text/plain; version=0.0.4"), "{}", empty.head);
    assert!(empty.body.contains("redoubt_vm_launches_total 0"), "{}", empty.body);
    let booted = scrape(&Service::booted());
    assert!(booted.body.contains("redoubt_vm_state{state=\"running\"} 1"), "{}", booted.body);
    assert!(booted.body.contains("redoubt_vcpu_exits_total{vcpu=\"vcpu0\",reason=\"mmio_read\"} 3"));
}

#[test]
fn clients_at_the_same_time_each_get_their_answer() {
    let service = Service::created();
    thread::scope(|scope| {
        for client in 0..16 {
            let service = &service;
            scope.spawn(move || {
                let mut stream = service.connect();
                for round in 0..20 {
                    let id = format!("d{client}-{round}");
                    let body = json!({"path": "/b", "id": id}).to_string();
                    stream.write_all(request("PUT", "vm.add-disk", &body).as_bytes()).unwrap();
                    assert_eq!(read_answer(&mut stream).status, 204, "{id}");
                }
            });
        }
    });
    assert_eq!(service.ask("GET", "vm.info", "").json()["config"]["disks"].as_array().unwrap().len(), 321);
}

#[test]
fn busy_vmm_says_so_instead_of_queueing_without_end() {
    let service = Service::created();
    let (release, hold) = std::sync::mpsc::channel();
    service.director.set(|shared| shared.hold = Some(hold));
    let mut clients: Vec<_> = (0..30).map(|_| service.connect()).collect();
    for client in &mut clients {
        client.write_all(request("PUT", "vm.boot", "").as_bytes()).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    release.send(()).unwrap();
    let statuses: Vec<u16> = clients.iter_mut().map(|client| read_answer(client).status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 204).count(), 1);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn half_open_connections_keep_nobody_out() {
    let service = Service::created();
    let mut half_open = Vec::new();
    for number in 0..200 {
        let mut stream = service.connect();
        let partial = match number % 4 {
            0 => String::new(),
            1 => "PUT /api/v1/vm.cr".into(),
            2 => "PUT /api/v1/vm.create HTTP/1.1\r\nHost: x\r\n".into(),
            _ => "PUT /api/v1/vm.create HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"pay".into(),
        };
        stream.write_all(partial.as_bytes()).unwrap();
        half_open.push(stream);
    }
    assert_eq!(service.ask("GET", "vmm.ping", "").status, 200);
    drop(half_open);
    assert_eq!(service.ask("GET", "vmm.ping", "").status, 200);
}

#[test]
fn client_that_closes_its_side_still_gets_the_answer() {
    let service = Service::created();
    let mut stream = service.connect();
    stream.write_all(request("GET", "vm.info", "").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
}

#[test]
fn client_that_goes_before_the_answer_leaves_the_vmm_in_order() {
    let service = Service::created();
    let (release, hold) = std::sync::mpsc::channel();
    service.director.set(|shared| shared.hold = Some(hold));
    let mut stream = service.connect();
    stream.write_all(request("PUT", "vm.boot", "").as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(100));
    drop(stream);
    release.send(()).unwrap();
    assert_eq!(service.ask("GET", "vm.info", "").json()["state"], "Running");
}

#[test]
fn what_is_not_http_is_answered_or_dropped_and_nothing_else_suffers() {
    let service = Service::created();
    for bytes in [&b"\0\0\0\0"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", &[b'a'; 1 << 20]] {
        let mut stream = service.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&rest));
    }
    let headers: String = (0..1000).map(|number| format!("X-{number}: y\r\n")).collect();
    let mut stream = service.connect();
    let _ = stream.write_all(format!("GET {BASE}vmm.ping HTTP/1.1\r\n{headers}\r\n").as_bytes());
    assert_eq!(read_answer(&mut stream).status, 431);
    assert_eq!(service.ask("GET", "vmm.ping", "").status, 200);
}

#[test]
fn whoever_ends_the_vmm_gets_an_answer_and_the_socket_goes() {
    let mut service = Service::booted();
    let mut idle = service.connect();
    idle.write_all(b"GET /api/").unwrap();
    assert_eq!(service.ask("PUT", "vmm.shutdown", "").status, 204);
    assert_eq!(service.control.take().unwrap().join().unwrap(), Outcome::Dismissed);
    assert!(!service.path.exists());
    assert_eq!(service.director.calls().last().unwrap(), "take down");
}

#[test]
fn call_table_has_every_path_once_and_every_call_decodes() {
    let mut paths: Vec<&str> = calls::CALLS.iter().map(|call| call.path).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), calls::CALLS.len());
    for call in &calls::CALLS {
        let name = call.path.trim_start_matches(BASE).trim_start_matches('/');
        let body = match name {
            "vm.create" => r#"{"payload":{"kernel":"/k"}}"#,
            "vm.resize" | "vm.add-disk" | "vm.add-net" => "{}",
            "vm.resize-disk" => r#"{"id":"a","desired_size":1}"#,
            "vm.remove-device" => r#"{"id":"a"}"#,
            "vm.add-fs" => r#"{"tag":"a","socket":"/s"}"#,
            "vm.add-pmem" => r#"{"file":"/f"}"#,
            "vm.add-vsock" => r#"{"cid":3,"socket":"/s"}"#,
            _ => "",
        };
        let request = Request { body: body.as_bytes(), descriptors: Vec::new() };
        let action = decode(call.method.name(), call.path, request).unwrap();
        assert_eq!(action.name(), name);
    }
}

/// The document that clients read, next to the rest of the documentation.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api/openapi.json");

#[test]
fn openapi_document_in_the_documentation_is_the_one_of_this_program() {
    let committed = std::fs::read_to_string(COMMITTED).unwrap();
    let committed: Value = serde_json::from_str(&committed).unwrap();
    let generated = serde_json::to_value(document()).unwrap();
    assert_eq!(committed, generated, "run `redoubt-vmm openapi > docs/api/openapi.json`");
}

#[test]
fn openapi_document_is_valid_and_complete() {
    let text = serde_json::to_string(&document()).unwrap();
    let spec = oas3::from_json(&text).unwrap();
    spec.validate_version().unwrap();
    let operations: Vec<_> = spec.operations().collect();
    assert_eq!(operations.len(), calls::CALLS.len());
    for (path, method, operation) in operations {
        let name = format!("{method} {path}");
        assert!(
            calls::CALLS.iter().any(|call| call.path == path && call.method.name() == method.as_str()),
            "{name}"
        );
        assert!(operation.operation_id.is_some() && operation.summary.is_some(), "{name}");
        let responses = operation.responses(&spec);
        for code in ["400", "429", "500"] {
            assert!(responses.contains_key(code), "{name}: {code}");
        }
        assert!(responses.keys().any(|code| code.starts_with('2')), "{name}");
        if let Some(body) = &operation.request_body {
            let body = body.resolve(&spec).unwrap();
            let media = &body.content["application/json"];
            media.schema(&spec).unwrap().unwrap();
        }
    }
    // Every reference leads somewhere.
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut references = Vec::new();
    collect_references(&value, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(value.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(reference) if name == "$ref" => found.push(reference.clone()),
                    _ => collect_references(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}
