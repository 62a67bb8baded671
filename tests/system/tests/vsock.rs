//! Streams between programs of the host and programs in a Linux guest, begun by either side.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use system_tests::{RunningVm, TestVm};

const BYTES: u32 = 2 << 20;
/// Connections at once, in each direction.
const CONNECTIONS: usize = 4;

/// The guest's `/init` has both ends of a connection: one with standard input and output, one that serves a program.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
/init --vsock-listen 7000 sh -c 'tee /tmp/in.$$; sha256sum < /tmp/in.$$ > /tmp/out.$$; mv /tmp/out.$$ /tmp/sum.$$' &
/init --vsock-listen 7001 sh -c 'head -c 65536 > /tmp/some; mv /tmp/some /tmp/taken' &
dd if=/dev/urandom of=/tmp/file bs=64k count=32 2> /dev/null
echo "file $(sha256sum < /tmp/file)"
for n in 1 2 3 4; do
    /init --vsock-connect 5000 < /tmp/file > /tmp/back$n &
    connections="$connections $!"
done
wait $connections
for n in 1 2 3 4; do echo "back$n $(sha256sum < /tmp/back$n)"; done
echo "nobody $(/init --vsock-connect 5999 < /dev/null 2>&1)"
echo "dropped $(/init --vsock-connect 5001 < /dev/zero 2>&1)"
echo "after $(echo still here | /init --vsock-connect 5000)"
until [ "$(ls /tmp/sum.* | wc -l)" = 4 ]; do usleep 50000; done
echo "sums $(cat /tmp/sum.* | sort -u)"
until [ -e /tmp/taken ]; do usleep 50000; done
echo "taken $(wc -c < /tmp/taken)"
echo "end $(/init --vsock-connect 5002 < /dev/null)"
"#;

#[test]
fn streams_go_both_ways_many_at_once_and_end_as_they_should() {
    talk(TestVm::plain("linux"));
}

#[test]
fn streams_go_both_ways_in_a_realm() {
    talk(TestVm::realm("linux"));
}

fn talk(vm: TestVm) {
    let (socket, console) = (vm.path("vsock"), vm.path("console.log"));
    let echo = serve(&vm.path("vsock_5000"), CONNECTIONS + 1, echo);
    let dropped = serve(&vm.path("vsock_5001"), 1, |mut stream| {
        stream.read_exact(&mut [0; 1 << 16]).unwrap();
        Vec::new()
    });
    let end = UnixListener::bind(vm.path("vsock_5002")).unwrap();
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/cpus", json!({"boot_vcpus": 2}))
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/vsock", json!({"cid": 3, "socket": socket}))
        .start();
    let file = running.answer("file");
    let content: Vec<u8> =
        (0..BYTES / 4).flat_map(|word| word.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    from_the_host(&running, &content);

    assert_eq!(running.answer("sums"), sum(&content), "what the guest received by each of the four");
    assert_eq!(running.answer("taken"), "65536");
    for n in 1..=CONNECTIONS {
        assert_eq!(running.answer(&format!("back{n}")), file);
    }
    assert_eq!(running.answer("after"), "still here");
    let received = echo.join().unwrap();
    let same = received.iter().filter(|bytes| sum(bytes) == file).count();
    assert_eq!(same, CONNECTIONS, "what the host received");
    dropped.join().unwrap();
    let nobody = running.answer("nobody");
    assert!(nobody.contains("cannot connect to port 5999") && nobody.contains("reset by peer"), "{nobody}");
    let dropped = running.answer("dropped");
    assert!(dropped.contains("broke off") || dropped.contains("takes no more"), "{dropped}");

    end.accept().unwrap().0.write_all(b"of both").unwrap();
    assert_eq!(running.answer("end"), "of both");
    let errors = running.wait_until_ended(4);
    assert!(!errors.contains("DMA refused"), "{errors}");
    assert!(!socket.exists(), "the socket goes with the VM");
}

/// The host begins: four streams to a program that sends back what it gets, one to a program that leaves, one to nobody.
fn from_the_host(running: &RunningVm, content: &[u8]) {
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let (mut stream, mut answer) = connect(running, 7000);
                let reader = scope.spawn(move || {
                    let mut back = Vec::new();
                    answer.read_to_end(&mut back).map(|_| back)
                });
                stream.write_all(content).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                assert!(reader.join().unwrap().unwrap() == content, "what came back is what was sent");
            });
        }
    });
    let (mut stream, _) = connect(running, 7001);
    let broken = io::copy(&mut io::repeat(0), &mut stream).unwrap_err();
    assert!(matches!(broken.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{broken}");
    assert!(try_connect(running, 7999).is_none(), "nobody listens");
}

/// A stream to the guest's port, as soon as somebody listens there.
fn connect(running: &RunningVm, port: u32) -> (UnixStream, BufReader<UnixStream>) {
    for _ in 0..600 {
        if let Some(connected) = try_connect(running, port) {
            return connected;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("nobody listens on port {port} of the guest");
}

fn try_connect(running: &RunningVm, port: u32) -> Option<(UnixStream, BufReader<UnixStream>)> {
    let mut stream = running.connect("vsock");
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
    let mut answer = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    line.starts_with("OK ").then_some((stream, answer))
}

/// Takes `count` connections of the guest at once and gives what each brought.
fn serve(path: &Path, count: usize, one: fn(UnixStream) -> Vec<u8>) -> JoinHandle<Vec<Vec<u8>>> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let streams = listener.incoming().take(count).map(Result::unwrap);
        let threads: Vec<_> = streams.map(|stream| thread::spawn(move || one(stream))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Sends back what comes, while it comes.
fn echo(mut stream: UnixStream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            stream.shutdown(Shutdown::Write).unwrap();
            return all;
        }
        stream.write_all(&buffer[..count]).unwrap();
        all.extend_from_slice(&buffer[..count]);
    }
}

/// As the guest's sha256sum prints it.
fn sum(bytes: &[u8]) -> String {
    format!("{}  -", hex::encode(Sha256::digest(bytes)))
}
