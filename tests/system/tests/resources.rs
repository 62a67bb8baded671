//! What a Linux guest sees of its processors and its memory.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use serde_json::json;
use system_tests::{TestVm, linux};

const MIB: u64 = 1 << 20;

const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
node=/sys/devices/system/node
cpu=/sys/devices/system/cpu
echo "online $(cat $cpu/online)"
echo "nodes $(cat $node/online)"
for n in 0 1; do
    echo "cpus$n $(cat $node/node$n/cpulist)"
    echo "distance$n $(cat $node/node$n/distance)"
    echo "kib$n $(sed -n 's/.*MemTotal: *\([0-9]*\) kB/\1/p' $node/node$n/meminfo)"
done
echo "packages $(cat $cpu/cpu*/topology/physical_package_id | sort -u | wc -l)"
echo "siblings $(cat $cpu/cpu0/topology/core_siblings_list)"
echo "end"
"#;

#[test]
fn two_numa_nodes_have_their_memory_their_vcpus_and_distances() {
    see(TestVm::plain("linux"));
}

#[test]
fn two_numa_nodes_in_a_realm() {
    see(TestVm::realm("linux"));
}

fn see(vm: TestVm) {
    let console = vm.path("console.log");
    let topology = json!({"threads_per_core": 1, "cores_per_die": 2, "dies_per_package": 1, "packages": 2});
    let affinity = json!([{"vcpu": 0, "host_cpus": [0]}, {"vcpu": 3, "host_cpus": [1]}]);
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/cpus", json!({"boot_vcpus": 4, "topology": topology, "affinity": affinity}))
        .with(
            "/memory",
            json!({"zones": [
                {"id": "near", "size": 384 * MIB, "host_numa_node": 0},
                {"id": "far", "size": 192 * MIB, "shared": true, "prefault": true},
            ]}),
        )
        .with(
            "/numa",
            json!([
                {"guest_numa_id": 0, "cpus": [0, 1], "memory_zones": ["near"],
                 "distances": [{"destination": 1, "distance": 25}]},
                {"guest_numa_id": 1, "cpus": [2, 3], "memory_zones": ["far"]},
            ]),
        )
        .start();
    running.wait_for_file("console.log", |text| text.contains("online"));
    let allowed = running.threads("Cpus_allowed_list");
    assert_eq!((allowed["vcpu0"].as_str(), allowed["vcpu3"].as_str()), ("0", "1"));
    let errors = running.wait_until_ended(4);
    let answers = fs::read_to_string(&console).unwrap();
    let answer = |name: &str| {
        linux::answer(&answers, name).unwrap_or_else(|| panic!("no {name} in:\n{answers}\n{errors}"))
    };
    assert_eq!((answer("online"), answer("nodes")), ("0-3".into(), "0-1".into()));
    assert_eq!((answer("cpus0"), answer("cpus1")), ("0-1".into(), "2-3".into()));
    assert_eq!((answer("distance0"), answer("distance1")), ("10 25".into(), "25 10".into()));
    let mib = |name: &str| answer(name).parse::<u64>().unwrap() / 1024;
    // The kernel keeps some of each node for itself.
    assert!((300..=384).contains(&mib("kib0")), "{answers}");
    assert!((150..=192).contains(&mib("kib1")), "{answers}");
    assert_eq!((answer("packages"), answer("siblings")), ("2".into(), "0-1".into()));
}
