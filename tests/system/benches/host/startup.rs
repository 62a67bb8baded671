//! How long the VMM takes until it answers, and until the guest runs.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::Value;
use system_tests::{TestVm, asset};

use crate::figures::{median_of, report};

const RUNS: usize = 11;

/// Measures with the bare-metal guest, whose kernel costs nothing to load.
pub fn measure() {
    report("exec-to-api", "ms", median_of(RUNS, exec_to_api));
    for (kind, vm) in [("plain", TestVm::plain as fn(&str) -> TestVm), ("realm", TestVm::realm)] {
        report(
            &format!("api-to-first-entry-{kind}"),
            "ms",
            median_of(RUNS, || api_to_first_entry(vm("hang"))),
        );
        report(
            &format!("exec-to-first-entry-{kind}"),
            "ms",
            median_of(RUNS, || exec_to_first_entry(vm("poweroff"))),
        );
    }
}

/// From the start of the program until it has answered a request on a socket that it was given.
fn exec_to_api() -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    let started = Instant::now();
    let mut vmm = Command::new(asset("REDOUBT_VMM"))
        .arg(format!("--api-socket=fd={}", listener.as_raw_fd()))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    request(&UnixStream::connect(&path).unwrap(), "GET", "vmm.ping", &Value::Null);
    let elapsed = millis(started);
    vmm.kill().unwrap();
    vmm.wait().unwrap();
    elapsed
}

/// From the request that creates a VM to the answer of the one that boots it, which comes when its vCPUs run.
fn api_to_first_entry(vm: TestVm) -> f64 {
    let running = vm.serve();
    let socket = running.connect("api.sock");
    request(&socket, "GET", "vmm.ping", &Value::Null);
    let started = Instant::now();
    request(&socket, "PUT", "vm.create", running.config());
    request(&socket, "PUT", "vm.boot", &Value::Null);
    millis(started)
}

/// From the start of the program with a VM until its vCPUs run.
fn exec_to_first_entry(vm: TestVm) -> f64 {
    let started = Instant::now();
    let mut running = vm.flag("-v").start();
    running.wait_for_log("the guest runs");
    let elapsed = millis(started);
    let _ = running.wait().expect_code(0);
    elapsed
}

/// Asks without a client's own cost; the answer must be a success.
fn request(mut socket: &UnixStream, method: &str, call: &str, body: &Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head =
        format!("{method} /api/v1/{call} HTTP/1.1\r\nHost: vmm\r\nContent-Length: {}\r\n\r\n", body.len());
    socket.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = BufReader::new(socket);
    let mut status = String::new();
    answer.read_line(&mut status).unwrap();
    assert!(status.starts_with("HTTP/1.1 20"), "{call}: {status}");
    let mut rest = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(length) = line.strip_prefix("content-length:") {
            rest = length.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    std::io::Read::read_exact(&mut answer, &mut vec![0; rest]).unwrap();
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
