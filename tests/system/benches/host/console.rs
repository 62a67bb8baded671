//! How often a vCPU has to leave the guest for a byte of console output, from the VMM's own counters.

use serde_json::json;
use system_tests::{RunningVm, TestVm};

use crate::figures::report;

/// Bytes that the guest writes to each console.
const BYTES: u32 = 16 * 1024;

/// Idles before and after each, so that the counters can be read.
const SCRIPT: &str = r#"
write() { head -c BYTES /dev/zero | tr '\0' x > /dev/$1; }
sleep 1; echo "figure idle"; sleep 3
write hvc0; sleep 1; echo "figure hvc0"; sleep 3
write ttyAMA0; sleep 1; echo; echo "figure ttyAMA0"; sleep 9
"#;

/// Measures both consoles in one guest.
pub fn measure() {
    let vm = TestVm::plain("linux").boot_linux(&SCRIPT.replace("BYTES", &BYTES.to_string()));
    let log = vm.path("console.log");
    let mut running = vm.with("/console", json!({"mode": "File", "file": log})).serve_with_vm();
    let [idle, virtio, pl011] = ["idle", "hvc0", "ttyAMA0"].map(|name| {
        running.wait_for(&format!("figure {name}"), 1);
        exits(&running)
    });
    // What a marker costs is small beside what it marks.
    report("exits-per-byte-virtio-console", "exits", f64::from(virtio - idle) / f64::from(BYTES));
    report("exits-per-byte-pl011", "exits", f64::from(pl011 - virtio) / f64::from(BYTES));
}

/// Exits to the VMM so far.
fn exits(running: &RunningVm) -> u32 {
    let counters = running.api().counters().unwrap();
    u32::try_from(counters["vcpu0"].values().sum::<u64>()).unwrap()
}
