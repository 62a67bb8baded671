//! Memory of the VMM beyond the guest's, as Firecracker measures it: the resident size of all its mappings but guest RAM.
//! What is anonymous of it each further VMM has once more; the rest is the program's file, of which there is one copy.

use std::fs;

use serde_json::json;
use system_tests::{RunningVm, TestVm};

use crate::figures::{median, report};

const RUNS: usize = 11;

/// Guest RAM, which is recognised by its size.
const GUEST_RAM: u64 = 128 << 20;

/// Measures an ordinary VM, one with the REST interface, and a software Realm.
pub fn measure() {
    let sized = |vm: TestVm| vm.with("/memory/size", json!(GUEST_RAM));
    figures("plain", || sized(TestVm::plain("hang")).start());
    figures("plain-api", || {
        let running = sized(TestVm::plain("hang")).serve_with_vm();
        running.api().ping().unwrap();
        running
    });
    figures("realm", || sized(TestVm::realm("hang")).start());
}

fn figures(kind: &str, start: impl Fn() -> RunningVm) {
    let runs: Vec<Mapping> = (0..RUNS).map(|_| overhead(start())).collect();
    let of = |field: fn(&Mapping) -> u32| median(runs.iter().map(|run| f64::from(field(run))).collect());
    report(&format!("vmm-memory-{kind}"), "KiB", of(|run| run.resident));
    report(&format!("vmm-memory-{kind}-anonymous"), "KiB", of(|run| run.anonymous));
}

/// A mapping, with sizes in KiB.
#[derive(Clone, Copy, Default)]
struct Mapping {
    size: u32,
    resident: u32,
    anonymous: u32,
}

/// All mappings together, guest RAM left out. What each has of it is told on standard error.
fn overhead(mut running: RunningVm) -> Mapping {
    running.wait_for("done hang", 1);
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", running.pid())).unwrap();
    let mut all = Mapping::default();
    for (name, mapping) in mappings(&smaps) {
        let Mapping { size, resident, anonymous } = mapping;
        eprintln!("mapping {resident:>6} ({anonymous:>5} anonymous) of {size:>6} KiB {name}");
        if u64::from(size) != GUEST_RAM / 1024 {
            all.size += size;
            all.resident += resident;
            all.anonymous += anonymous;
        }
    }
    all
}

/// Every mapping behind its address and name (proc(5)).
fn mappings(smaps: &str) -> Vec<(&str, Mapping)> {
    let field = |line: &str, name: &str| -> Option<u32> {
        line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok()
    };
    let mut mappings: Vec<(&str, Mapping)> = Vec::new();
    for line in smaps.lines() {
        if line.split_once(' ').is_some_and(|(range, _)| !range.ends_with(':')) {
            mappings.push((line, Mapping::default()));
        }
        let Some((_, mapping)) = mappings.last_mut() else { continue };
        for (name, value) in [
            ("Size:", &mut mapping.size),
            ("Rss:", &mut mapping.resident),
            ("Anonymous:", &mut mapping.anonymous),
        ] {
            if let Some(kib) = field(line, name) {
                *value = kib;
            }
        }
    }
    mappings
}
