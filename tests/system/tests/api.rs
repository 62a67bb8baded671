//! The REST interface with a real VM behind it.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::thread::sleep;
use std::time::Duration;

use api::message::{VmResizeDisk, VmState};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::{RunningVm, TestVm, linux};

const MIB: u64 = 1 << 20;

/// Waits for the disk to grow and for the power button, and says all the time that it is alive.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
before=$(cat /sys/block/vda/size)
echo "ready"
while [ "$(cat /sys/block/vda/size)" = "$before" ]; do usleep 50000; done
echo "size $before $(cat /sys/block/vda/size)"
dd if=/dev/zero of=/dev/vda bs=1M seek=40 count=4 conv=fsync 2> /dev/null && echo "written yes"
(while :; do echo "tick"; usleep 50000; done) &
echo "button $(head -c 24 /dev/input/event0 | base64)"
kill $!
"#;

#[test]
fn vm_is_directed_by_a_client() {
    direct(TestVm::plain("linux"));
}

#[test]
fn realm_is_directed_by_a_client() {
    direct(TestVm::realm("linux"));
}

fn direct(vm: TestVm) {
    let (disk, console) = (vm.path("disk.img"), vm.path("console.log"));
    File::create(&disk).unwrap().set_len(32 * MIB).unwrap();
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/disks", json!([{"path": disk, "image_type": "Raw", "id": "data"}]))
        .serve();
    let api = running.api();
    let pong = api.ping().unwrap();
    assert_eq!(pong.pid, i64::from(running.pid()));
    assert!(api.info().is_err(), "there is no VM");
    api.create(&serde_json::from_value(running.config().clone()).unwrap()).unwrap();
    assert_eq!(api.info().unwrap().state, VmState::Created);
    assert!(api.pause().is_err(), "it does not run");
    api.boot().unwrap();
    assert!(api.power_button().is_err(), "nobody listens at this time of the boot");

    running.wait_for_file("console.log", |text| text.contains("ready"));
    let info = api.info().unwrap();
    assert_eq!((info.state, info.memory_actual_size), (VmState::Running, Some(512 * MIB)));
    assert_eq!(info.device_tree["data"].pci_bdf.as_deref(), Some("0000:00:01.0"));
    api.resize_disk(&VmResizeDisk { id: "data".into(), desired_size: 64 * MIB }).unwrap();
    assert!(api.resize_disk(&VmResizeDisk { id: "data".into(), desired_size: 32 * MIB }).is_err());
    running.wait_for_file("console.log", |text| text.contains("written yes"));
    let counters = api.counters().unwrap();
    assert!(counters["data"]["write_bytes"] >= 4 * MIB, "{counters:?}");
    assert!(counters.keys().any(|name| name.starts_with("vcpu")), "{counters:?}");

    let ticks = |text: &str| text.matches("tick").count();
    running.wait_for_file("console.log", |text| ticks(text) > 2);
    api.pause().unwrap();
    assert_eq!(api.info().unwrap().state, VmState::Paused);
    let before = ticks(&fs::read_to_string(&console).unwrap());
    sleep(Duration::from_secs(1));
    let paused = ticks(&fs::read_to_string(&console).unwrap());
    assert_eq!(paused, before, "a guest that stands still says nothing");
    api.resume().unwrap();
    running.wait_for_file("console.log", |text| ticks(text) > paused + 2);

    api.power_button().unwrap();
    let text = running.wait_for_file("console.log", |text| linux::answer(text, "button").is_some());
    let size = format!("{} {}", 32 * MIB / 512, 64 * MIB / 512);
    assert_eq!(linux::answer(&text, "size"), Some(size));
    // struct input_event: 16 bytes of time, then type EV_KEY, code KEY_POWER, value 1 (pressed).
    let event = STANDARD.decode(linux::answer(&text, "button").unwrap()).unwrap();
    assert_eq!(event[16..], [1, 0, 116, 0, 1, 0, 0, 0]);
    running.wait_until_ended(4);
    assert_eq!(
        lifecycle(&running),
        [
            "vmm starting",
            "vm booting",
            "vm booted",
            "vm pausing",
            "vm paused",
            "vm resuming",
            "vm resumed",
            "vm shutdown",
            "vmm shutdown"
        ]
    );
}

/// What the event monitor was told of the VM and the VMM.
fn lifecycle(running: &RunningVm) -> Vec<String> {
    let text = fs::read_to_string(running.path("events")).unwrap();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    let name = |event: &str| {
        let event: Value = serde_json::from_str(event).unwrap_or_else(|error| panic!("{error} in {event}"));
        format!("{} {}", event["source"].as_str().unwrap(), event["event"].as_str().unwrap())
    };
    events.map(name).filter(|name| name.starts_with("vm ") || name.starts_with("vmm ")).collect()
}
