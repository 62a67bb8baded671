//! The program when its connection breaks off.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener as Listener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::world::{TENANT, complaint, gta};

/// Reads a request; gives its first line and its headers.
fn request(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// The program against somebody on this machine who plays the server.
fn against(directory: &Path, listener: &Listener, arguments: &[&str]) -> Command {
    fs::write(directory.join("key"), "0123456789abcdefghijABCDEFGHIJxy").unwrap();
    let mut command = gta(directory, arguments);
    command
        .env("GTA_SERVER", format!("http://{}", listener.local_addr().unwrap()))
        .env("GTA_TENANT", TENANT)
        .env("GTA_API_KEY_FILE", "key");
    command
}

#[test]
fn a_stream_that_broke_off_is_taken_up_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let mut process = against(directory.path(), &listener, &["event", "--follow", "--after", "5"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let answer = |text: String| {
        let (mut stream, _) = listener.accept().unwrap();
        let head = request(&mut stream);
        stream.write_all(text.as_bytes()).unwrap();
        head
    };
    let event = |seq: u32| json!({ "seq": seq, "at": 0, "node_id": "web-7", "status": "failed" });
    let stream = |seq: u32| format!("HTTP/1.1 200 OK\r\n\r\nid: {seq}\ndata: {}\n\n", event(seq));
    let body = json!({ "events": [event(6)] }).to_string();
    let page = answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    assert!(page.contains("after=5"), "{page}");
    assert!(answer(stream(7)).contains("last-event-id: 6\r\n"));
    assert!(answer(stream(9)).contains("last-event-id: 7\r\n"));
    // The key was taken away: there is no use in asking again.
    let body = r#"{"code":"api_key_unknown"}"#;
    answer(format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(process.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    process.stdout.unwrap().read_to_string(&mut said).unwrap();
    let expected = "1970-01-01 00:00:00  web-7  new -> failed\n";
    assert_eq!(said, expected.repeat(3));
}

#[test]
fn a_new_key_that_got_lost_on_the_way_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    for (answer, lost) in [
        ("", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n{\"API-Key\"", true),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", false),
    ] {
        let mut command = against(directory.path(), &listener, &["key", "renew"]);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        assert!(request(&mut stream).starts_with("POST /global-trust-authority/service/v1/register "));
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);
        let told = complaint(&process.wait_with_output().unwrap());
        assert_eq!(told.contains("gta-server add-key"), lost, "{answer}: {told}");
        assert!(!directory.path().join("key.new").exists());
    }
}
