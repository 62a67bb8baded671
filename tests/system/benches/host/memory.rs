//! Memory of the VMM beyond the guest's, as Firecracker measures it: the resident size of all its mappings but guest RAM.

use std::fs;

use serde_json::json;
use system_tests::{RunningVm, TestVm};

use crate::figures::{median_of, report};

const RUNS: usize = 11;

/// Guest RAM, which is recognised by its size.
const GUEST_RAM: u64 = 128 << 20;

/// Measures an ordinary VM, one with the REST interface, and a software Realm.
pub fn measure() {
    let figure = |kind: &str, start: &dyn Fn() -> RunningVm| {
        report(&format!("vmm-memory-{kind}"), "KiB", median_of(RUNS, || overhead(start())));
    };
    let sized = |vm: TestVm| vm.with("/memory/size", json!(GUEST_RAM));
    figure("plain", &|| sized(TestVm::plain("hang")).start());
    figure("plain-api", &|| {
        let running = sized(TestVm::plain("hang")).serve_with_vm();
        running.api().ping().unwrap();
        running
    });
    figure("realm", &|| sized(TestVm::realm("hang")).start());
}

/// Resident memory in KiB, guest RAM left out. What each mapping has of it is told on standard error.
fn overhead(mut running: RunningVm) -> f64 {
    running.wait_for("done hang", 1);
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", running.pid())).unwrap();
    let mappings = mappings(&smaps);
    for (name, size, resident) in &mappings {
        eprintln!("mapping {resident:>6} of {size:>6} KiB {name}");
    }
    let counted = mappings.iter().filter(|&&(_, size, _)| u64::from(size) != GUEST_RAM / 1024);
    f64::from(counted.map(|&(_, _, resident)| resident).sum::<u32>())
}

/// Address and name, size and resident size (both in KiB) of every mapping (proc(5)).
fn mappings(smaps: &str) -> Vec<(&str, u32, u32)> {
    let field = |line: &str, name: &str| -> Option<u32> {
        line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok()
    };
    let mut mappings: Vec<(&str, u32, u32)> = Vec::new();
    for line in smaps.lines() {
        if let Some(size) = field(line, "Size:") {
            if let Some(mapping) = mappings.last_mut() {
                mapping.1 = size;
            }
        } else if let Some(resident) = field(line, "Rss:") {
            if let Some(mapping) = mappings.last_mut() {
                mapping.2 = resident;
            }
        } else if line.split_once(' ').is_some_and(|(range, _)| !range.ends_with(':')) {
            mappings.push((line, 0, 0));
        }
    }
    mappings
}
