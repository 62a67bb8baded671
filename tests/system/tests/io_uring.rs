//! Disks whose requests the kernel carries out side by side, beside one without, in one guest.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{RunningVm, TestVm, linux};

const MIB: u64 = 1 << 20;

/// Several readers and writers of all disks at once, with flushes and discards between.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
dd if=/dev/urandom of=/tmp/file bs=1M count=8 2> /dev/null
echo "written $(sha256sum < /tmp/file)"
echo "ready"
for disk in DISKS; do for part in 0 1; do
    dd if=/tmp/file of=/dev/$disk bs=64k seek=$((part * 128)) conv=fsync 2> /dev/null &
done; done
wait
echo 3 > /proc/sys/vm/drop_caches
for disk in DISKS; do for part in 0 1; do
    dd if=/dev/$disk bs=64k skip=$((part * 128)) count=128 2> /dev/null | sha256sum > /tmp/$disk$part &
done; done
wait
for disk in DISKS; do
    for part in 0 1; do echo "$disk-$part $(cat /tmp/$disk$part)"; done
    blkdiscard -o 0 -l 8388608 /dev/$disk && echo "$disk-discarded yes"
done
echo "end"
"#;

/// Runs a guest with a disk for each of `options`, of which so many are to have a ring.
fn exercise(vm: TestVm, options: &[Value], expected_rings: usize) {
    let console = vm.path("console.log");
    let (mut names, mut disks) = (Vec::new(), Vec::new());
    for (letter, options) in ('a'..).zip(options) {
        let name = format!("vd{letter}");
        let image = vm.path(&name);
        File::create(&image).unwrap().set_len(16 * MIB).unwrap();
        let mut disk = options.clone();
        disk["path"] = json!(image);
        disk["image_type"] = json!("Raw");
        disks.push(disk);
        names.push(name);
    }
    let mut running = vm
        .boot_linux(&SCRIPT.replace("DISKS", &names.join(" ")))
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/disks", json!(disks))
        .serve_with_vm();
    let api = running.api();
    running.wait_for_file("console.log", |text| text.contains("ready"));
    assert_eq!(rings(&running), expected_rings);
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
    for name in &names {
        for part in 0..2 {
            assert_eq!(answer(&format!("{name}-{part}")), answer("written"), "{name}");
        }
        assert_eq!(answer(&format!("{name}-discarded")), "yes");
        let content = fs::read(running.path(name)).unwrap();
        assert!(content[..8 << 20].iter().all(|&byte| byte == 0), "{name} is discarded on the host");
        assert!(content[8 << 20..].iter().any(|&byte| byte != 0), "{name} is written on the host");
    }
}

/// Rings that the VMM has open.
fn rings(running: &RunningVm) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap();
    let names = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    names.filter(|name| name.to_string_lossy().contains("io_uring")).count()
}

#[test]
fn linux_uses_disks_with_a_ring_past_the_page_cache_and_without() {
    let options = [json!({}), json!({"direct": true}), json!({"disable_io_uring": true})];
    exercise(TestVm::plain("linux"), &options, 2);
}

#[test]
fn realm_uses_disks_with_a_ring() {
    exercise(TestVm::realm("linux"), &[json!({}), json!({"direct": true})], 2);
}
