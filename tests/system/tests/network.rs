//! A network interface between a Linux guest and a tap device of the host.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::json;
use sha2::{Digest, Sha256};
use system_tests::{TestVm, linux};

const BYTES: u32 = 16 << 20;

/// Takes a file from the host and sends it back, by two connections.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
echo "mac $(cat /sys/class/net/eth0/address)"
echo "mtu $(cat /sys/class/net/eth0/mtu)"
echo "queues $(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)"
ifconfig eth0 HOST.2 netmask 255.255.255.0 up
nc HOST.1 5001 < /dev/null > /tmp/file
echo "received $(sha256sum < /tmp/file)"
nc HOST.1 5002 < /tmp/file
nc HOST.1 5003 < /dev/null
echo "end"
"#;

#[test]
fn frames_go_both_ways_over_two_queue_pairs() {
    exchange(TestVm::plain("linux"), "tap-plain", "10.77.1");
}

#[test]
fn frames_go_both_ways_in_a_realm() {
    exchange(TestVm::realm("linux"), "tap-realm", "10.77.2");
}

fn exchange(vm: TestVm, tap: &str, network: &str) {
    let console = vm.path("console.log");
    let vm = vm
        .boot_linux(&SCRIPT.replace("HOST", network))
        .with("/cpus", json!({"boot_vcpus": 2}))
        .with("/console", json!({"mode": "File", "file": console}))
        .with(
            "/net",
            json!([{
                "tap": tap, "ip": format!("{network}.1"), "mask": "255.255.255.0",
                "mac": "52:54:00:12:34:56", "mtu": 1400, "num_queues": 4,
            }]),
        );
    let content: Vec<u8> =
        (0..BYTES / 4).flat_map(|word| word.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let digest = hex::encode(Sha256::digest(&content));
    let listen = |port: u16| TcpListener::bind(("0.0.0.0", port)).unwrap();
    let (give, take, done) = (listen(5001), listen(5002), listen(5003));
    let sent = content.clone();
    let host = thread::spawn(move || {
        give.accept().unwrap().0.write_all(&sent).unwrap();
        let mut back = Vec::new();
        take.accept().unwrap().0.take(2 * u64::from(BYTES)).read_to_end(&mut back).unwrap();
        drop(done.accept().unwrap());
        back
    });
    let mut running = vm.start();
    let errors = running.wait_until_ended(4);
    let answers = fs::read_to_string(&console).unwrap();
    let answer = |name: &str| {
        linux::answer(&answers, name).unwrap_or_else(|| panic!("no {name} in:\n{answers}\n{errors}"))
    };
    assert_eq!(answer("mac"), "52:54:00:12:34:56");
    assert_eq!(answer("mtu"), "1400");
    assert_eq!(answer("queues"), "2");
    assert_eq!(answer("received"), format!("{digest}  -"));
    assert!(host.join().unwrap() == content, "what came back is what was sent");
    assert!(!errors.contains("DMA refused"), "{errors}");
}
