//! Persistent memory of a Linux guest: a file system in a file of the host, mapped and not copied.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use system_tests::{TestVm, linux};

const MIB: u64 = 1 << 20;

/// Mounts what is there, directly if the kernel can, and writes a file to it.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
echo "size $(cat /sys/block/pmem0/size)"
mkdir -p /mnt
mount -t ext4 -o dax=always /dev/pmem0 /mnt && echo "mounted dax" || { mount -t ext4 /dev/pmem0 /mnt && echo "mounted plain"; }
echo "found $(cat /mnt/note 2> /dev/null || echo nothing)"
echo "from the guest" > /mnt/note
dd if=/dev/urandom of=/mnt/data bs=1M count=4 conv=fsync 2> /dev/null && echo "written $(sha256sum < /mnt/data)"
sync
umount /mnt && echo "unmounted yes"
"#;

/// Runs a guest with this persistent memory; what it says.
fn run(vm: TestVm, pmem: &Value) -> String {
    let console = vm.path("console.log");
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/pmem", json!([pmem]))
        .start();
    let errors = running.wait_until_ended(4);
    let answers = fs::read_to_string(running.path("console.log")).unwrap();
    assert!(answers.contains("unmounted yes"), "{answers}\n{errors}");
    answers
}

fn answer(answers: &str, name: &str) -> String {
    linux::answer(answers, name).unwrap_or_else(|| panic!("no {name} in:\n{answers}"))
}

/// An empty ext4 file system.
fn image(path: &Path) {
    fs::copy(system_tests::asset("REDOUBT_EXT4_IMAGE"), path).unwrap();
}

#[test]
fn guest_mounts_a_file_system_that_keeps_what_is_written() {
    let keep = tempfile::tempdir().unwrap();
    let file = keep.path().join("root.ext4");
    image(&file);
    let pmem = json!({"file": file, "id": "root"});
    let first = run(TestVm::plain("linux"), &pmem);
    assert_eq!(answer(&first, "size"), (16 * MIB / 512).to_string());
    assert_eq!((answer(&first, "mounted"), answer(&first, "found")), ("dax".into(), "nothing".into()));
    let second = run(TestVm::plain("linux"), &pmem);
    assert_eq!(answer(&second, "found"), "from the guest");
}

#[test]
fn file_stays_as_it_is_where_writes_are_discarded() {
    let keep = tempfile::tempdir().unwrap();
    let file = keep.path().join("root.ext4");
    image(&file);
    let before = fs::read(&file).unwrap();
    for _ in 0..2 {
        let answers = run(TestVm::plain("linux"), &json!({"file": file, "discard_writes": true}));
        assert_eq!(answer(&answers, "found"), "nothing");
    }
    assert!(fs::read(&file).unwrap() == before);
}
