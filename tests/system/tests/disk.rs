//! Disks of a Linux guest: a raw image with two queues, and a qcow2 image on top of another.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use imago::{
    FormatAccess, FormatCreateBuilder, FormatDriverBuilder, PermissiveImplicitOpenGate, Storage as _,
    StorageOpenOptions,
};
use serde_json::json;
use system_tests::{TestVm, linux};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 32 * MIB;

/// Fills half of each disk, reads it back past the guest's page cache, and discards a quarter.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
echo "queues $(ls -d /sys/block/vda/mq/* | wc -l) $(ls -d /sys/block/vdb/mq/* | wc -l)"
echo "sectors $(cat /sys/block/vda/size) $(cat /sys/block/vdb/size)"
echo "below $(dd if=/dev/vdb bs=1M skip=30 count=1 2> /dev/null | sha256sum)"
for disk in vda vdb; do
    dd if=/dev/urandom of=/tmp/file bs=1M count=16 2> /dev/null
    dd if=/tmp/file of=/dev/$disk bs=1M conv=fsync 2> /dev/null
    echo 3 > /proc/sys/vm/drop_caches
    echo "$disk-written $(sha256sum < /tmp/file)"
    echo "$disk-read $(dd if=/dev/$disk bs=1M count=16 2> /dev/null | sha256sum)"
    blkdiscard -o 8388608 -l 8388608 /dev/$disk && echo "$disk-discarded yes"
    echo "$disk-kept $(head -c 8388608 /tmp/file | sha256sum)"
    rm /tmp/file
done
echo "end"
"#;

#[test]
fn linux_writes_syncs_reads_and_discards() {
    exercise(TestVm::plain("linux"));
}

#[test]
fn linux_writes_syncs_reads_and_discards_in_a_realm() {
    exercise(TestVm::realm("linux"));
}

fn exercise(vm: TestVm) {
    let (raw, base, overlay) = (vm.path("disk.img"), vm.path("base.img"), vm.path("overlay.qcow2"));
    let console = vm.path("console.log");
    File::create(&raw).unwrap().set_len(SIZE).unwrap();
    let mut content = vec![0; usize::try_from(SIZE).unwrap()];
    content[30 << 20..31 << 20].fill(0x5a);
    fs::write(&base, &content).unwrap();
    create_overlay(&overlay, &base);
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/cpus", json!({"boot_vcpus": 2}))
        .with("/console", json!({"mode": "File", "file": console}))
        .with(
            "/disks",
            json!([
                {"path": raw, "image_type": "Raw", "num_queues": 2, "direct": true},
                {"path": overlay, "image_type": "Qcow2", "backing_files": true},
            ]),
        )
        .start();
    let errors = running.wait_until_ended(4);
    let answers = fs::read_to_string(&console).unwrap();
    let answer = |name: &str| {
        linux::answer(&answers, name).unwrap_or_else(|| panic!("no {name} in:\n{answers}\n{errors}"))
    };
    assert_eq!(answer("queues"), "2 1");
    let sectors = SIZE / 512;
    assert_eq!(answer("sectors"), format!("{sectors} {sectors}"));
    assert_eq!(answer("below"), sum(&[0x5a; 1 << 20]), "what the overlay does not have comes from its base");
    let image = read_qcow2(&overlay);
    for (disk, host) in [("vda", &fs::read(&raw).unwrap()), ("vdb", &image)] {
        assert_eq!(answer(&format!("{disk}-read")), answer(&format!("{disk}-written")));
        assert_eq!(answer(&format!("{disk}-discarded")), "yes");
        assert_eq!(sum(&host[..8 << 20]), answer(&format!("{disk}-kept")), "{disk} on the host");
    }
    let allocated = fs::metadata(&raw).unwrap().blocks() * 512;
    assert!((8 * MIB..9 * MIB).contains(&allocated), "{allocated} bytes of the raw image are left");
    assert!(fs::read(&base).unwrap() == content, "nothing is written to the base");
}

fn create_overlay(path: &Path, base: &Path) {
    File::create(path).unwrap();
    let storage = Storage::open(StorageOpenOptions::new().filename(path).write(true)).unwrap();
    Qcow2::<Storage>::create_builder(storage)
        .size(SIZE)
        .backing(base.to_str().unwrap().into(), "raw".into())
        .create()
        .unwrap();
}

/// What a guest would see.
fn read_qcow2(path: &Path) -> Vec<u8> {
    let storage = Storage::open(StorageOpenOptions::new().filename(path)).unwrap();
    let image = Qcow2::<Storage>::builder(storage).open(PermissiveImplicitOpenGate::default()).unwrap();
    let mut content = vec![0; usize::try_from(SIZE).unwrap()];
    FormatAccess::new(image).read(&mut content, 0).unwrap();
    content
}

/// As the guest's sha256sum prints it.
fn sum(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    format!("{}  -", hex::encode(Sha256::digest(bytes)))
}
