//! A guest that writes garbage to every register of the board and of every device, and to every queue. Queues that are served
//! by another process are left out: that is the other process's test.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};

use api::message::VmState;
use rustix::process::Signal;
use serde_json::json;
use system_tests::{RunningVm, TestVm};

const MIB: u64 = 1 << 20;
const RAM: u64 = 64 * MIB;

/// What the VMM may take beyond the guest's memory, however hostile the guest. Requests of 32 MiB are among those that it
/// makes, over and over.
const OVERHEAD: u64 = 24 * MIB;

fn with_devices(vm: TestVm, tap: &str) -> TestVm {
    let (disk, vsock) = (vm.path("disk.img"), vm.path("vsock"));
    File::create(&disk).unwrap().set_len(4 * MIB).unwrap();
    vm.with("/disks", json!([{"path": disk, "image_type": "Raw"}]))
        .with("/net", json!([{"tap": tap, "ip": "10.99.1.1", "mask": "255.255.255.0"}]))
        .with("/vsock", json!({"cid": 3, "socket": vsock}))
        .with("/console", json!({"mode": "Null"}))
        .with("/watchdog", json!(true))
}

/// Runs the guest to its end, of which it says that the devices work again.
fn survive(vm: TestVm, devices: usize) {
    let mut running = vm.serve_with_vm();
    running.wait_for("done hostile", 1);
    let peak = peak(&running);
    let api = running.api();
    assert_eq!(api.info().unwrap().state, VmState::Running);
    api.pause().unwrap();
    api.resume().unwrap();
    running.signal(Signal::TERM);
    let ended = running.wait().expect_code(128 + 15).expect_passed("hostile");
    assert!(ended.serial.contains(&format!("virtio {devices}")), "{}", ended.serial);
    let said = ended.errors();
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.len() < 64 << 10, "{} bytes of log:\n{said}", said.len());
    assert!(peak <= RAM + OVERHEAD, "{peak} bytes at most\n{said}");
}

/// Most memory that the VMM and its guest had at any time, in bytes.
fn peak(running: &RunningVm) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

#[test]
fn vmm_survives_a_guest_that_writes_garbage_everywhere() {
    let vm = with_devices(TestVm::plain("hostile"), "tap-hostile");
    let memory = vm.path("pmem");
    File::create(&memory).unwrap().set_len(2 * MIB).unwrap();
    let vm = vm
        .with("/balloon", json!({"size": 0, "free_page_reporting": true}))
        .with("/pmem", json!([{"file": memory}]));
    survive(vm, 7);
}

#[test]
fn vmm_survives_a_realm_that_writes_garbage_everywhere() {
    survive(with_devices(TestVm::realm("hostile"), "tap-hostile-r"), 5);
}
