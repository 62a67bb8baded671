//! Disks whose requests the kernel carries out side by side, and the same disks without.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use system_tests::{RunningVm, TestVm, linux};

const MIB: u64 = 1 << 20;

/// Several readers and writers at once, with flushes and discards between.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
dd if=/dev/urandom of=/tmp/file bs=1M count=8 2> /dev/null
echo "written $(sha256sum < /tmp/file)"
echo "ready"
for part in 0 1 2 3; do
    dd if=/tmp/file of=/dev/vda bs=64k seek=$((part * 128)) conv=fsync 2> /dev/null &
done
wait
echo 3 > /proc/sys/vm/drop_caches
for part in 0 1 2 3; do
    dd if=/dev/vda bs=64k skip=$((part * 128)) count=128 2> /dev/null | sha256sum > /tmp/sum$part &
done
wait
for part in 0 1 2 3; do echo "read$part $(cat /tmp/sum$part)"; done
blkdiscard -o 0 -l 8388608 /dev/vda && echo "discarded yes"
echo "end"
"#;

fn exercise(vm: TestVm, synchronous: bool, direct: bool) {
    let (disk, console) = (vm.path("disk.img"), vm.path("console.log"));
    File::create(&disk).unwrap().set_len(32 * MIB).unwrap();
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/console", json!({"mode": "File", "file": console}))
        .with(
            "/disks",
            json!([{"path": disk, "image_type": "Raw", "direct": direct, "disable_io_uring": synchronous}]),
        )
        .serve_with_vm();
    let api = running.api();
    running.wait_for_file("console.log", |text| text.contains("ready"));
    assert_eq!(rings(&running) == 0, synchronous, "whether the VMM has a ring");
    // Nothing is lost while the VM stands still in the middle of it.
    for _ in 0..5 {
        api.pause().unwrap();
        sleep(Duration::from_millis(20));
        api.resume().unwrap();
        sleep(Duration::from_millis(50));
    }
    let errors = running.wait_until_ended(4);
    let answers = fs::read_to_string(running.path("console.log")).unwrap();
    let answer = |name: &str| {
        linux::answer(&answers, name).unwrap_or_else(|| panic!("no {name} in:\n{answers}\n{errors}"))
    };
    for part in 0..4 {
        assert_eq!(answer(&format!("read{part}")), answer("written"));
    }
    assert_eq!(answer("discarded"), "yes");
}

/// Rings that the VMM has open.
fn rings(running: &RunningVm) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap();
    let names = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    names.filter(|name| name.to_string_lossy().contains("io_uring")).count()
}

#[test]
fn linux_uses_a_disk_with_a_ring() {
    exercise(TestVm::plain("linux"), false, false);
}

#[test]
fn linux_uses_a_disk_with_a_ring_past_the_page_cache() {
    exercise(TestVm::plain("linux"), false, true);
}

#[test]
fn linux_uses_a_disk_without_a_ring() {
    exercise(TestVm::plain("linux"), true, false);
}

#[test]
fn realm_uses_a_disk_with_a_ring() {
    exercise(TestVm::realm("linux"), false, false);
}
