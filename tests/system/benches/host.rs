//! What a VM costs on the Arm host; `cargo xtask bench` runs it there and prints the figures.
//!
//! Every line of the answer is `bench NAME MEDIAN UNIT`, medians over the runs of one boot of the host.

#![cfg_attr(not(target_arch = "aarch64"), allow(unused, reason = "there is no KVM for arm64 guests here"))]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot measure ends")]

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::{TestVm, asset};

/// Runs of what takes milliseconds.
const MANY: usize = 11;

/// Runs of a Linux guest, which takes seconds.
const FEW: usize = 3;

/// Guest RAM of the memory measurement, which recognises it by its size.
const GUEST_RAM: u64 = 128 << 20;

fn main() {
    #[cfg(target_arch = "aarch64")]
    for (kind, vm) in [("plain", TestVm::plain as fn(&str) -> TestVm), ("realm", TestVm::realm)] {
        report(&format!("exec-to-first-entry-{kind}"), "ms", millis(MANY, || first_entry(vm("poweroff"))));
        report(&format!("vmm-memory-{kind}"), "KiB", median(MANY, || overhead(vm("hang"))));
        report(&format!("linux-exec-to-init-{kind}"), "ms", millis(FEW, || linux_init(vm("linux"))));
    }
}

fn report(name: &str, unit: &str, value: u64) {
    println!("bench {name} {value} {unit}");
}

fn median(runs: usize, mut measure: impl FnMut() -> u64) -> u64 {
    let mut values: Vec<u64> = (0..runs).map(|_| measure()).collect();
    values.sort_unstable();
    values.get(runs / 2).copied().unwrap_or_default()
}

fn millis(runs: usize, mut measure: impl FnMut() -> Duration) -> u64 {
    median(runs, || u64::try_from(measure().as_millis()).unwrap_or(u64::MAX))
}

/// From the start of the program until its first vCPU is about to enter the guest.
fn first_entry(vm: TestVm) -> Duration {
    let started = Instant::now();
    let mut running = vm.flag("-v").start();
    running.wait_for_log("the guest runs");
    let elapsed = started.elapsed();
    let _ = running.wait().expect_code(0);
    elapsed
}

/// Resident memory of the VMM in KiB, guest RAM left out: every mapping but the one of that size.
fn overhead(vm: TestVm) -> u64 {
    let mut running = vm.with("/memory/size", json!(GUEST_RAM)).start();
    running.wait_for("done hang", 1);
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", running.pid())).unwrap();
    let field = |line: &str, name: &str| -> Option<u64> {
        line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok()
    };
    let (mut size, mut total) = (0, 0);
    for line in smaps.lines() {
        size = field(line, "Size:").unwrap_or(size);
        if size != GUEST_RAM / 1024 {
            total += field(line, "Rss:").unwrap_or(0);
        }
    }
    total
}

/// From the start of the program until the init of a Linux guest has done its job.
fn linux_init(vm: TestVm) -> Duration {
    let vm = vm
        .with("/payload/kernel", json!(asset("REDOUBT_GUEST_IMAGE")))
        .with("/payload/initramfs", json!(asset("REDOUBT_GUEST_INITRD")))
        .with("/payload/cmdline", json!("console=ttyAMA0 quiet panic=-1 swiotlb=16384"))
        .with("/memory/size", json!(512 << 20));
    let started = Instant::now();
    let mut running = vm.start();
    running.wait_for("guest-init: job exited", 1);
    started.elapsed()
}
