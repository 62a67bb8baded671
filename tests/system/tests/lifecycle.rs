//! How VMs begin and end.

#![cfg(target_arch = "aarch64")]

use rustix::process::Signal;
use serde_json::{Value, json};
use system_tests::TestVm;

#[test]
fn ordinary_vm_is_no_realm_and_powers_off() {
    let vm = TestVm::plain("poweroff").run().expect_code(0).expect_passed("poweroff");
    assert!(vm.serial.contains("realm no"), "{}", vm.serial);
}

#[test]
fn realm_powers_off() {
    let vm = TestVm::realm("poweroff").run().expect_code(0).expect_passed("poweroff");
    assert!(vm.serial.contains("realm yes"), "{}", vm.serial);
}

#[test]
fn reset_launches_the_realm_anew_until_somebody_ends_it() {
    let mut vm = TestVm::realm("reboot").start();
    vm.wait_for("done reboot", 3);
    vm.signal(Signal::TERM);
    let vm = vm.wait().expect_code(128 + 15);
    assert!(vm.serial.matches("realm yes").count() >= 3, "{}", vm.serial);
}

#[test]
fn reset_ends_a_vm_that_may_not_reboot() {
    let vm = TestVm::realm("reboot").flag("--no-reboot").run().expect_code(4);
    assert_eq!(vm.serial.matches("done reboot").count(), 1, "{}", vm.serial);
}

#[test]
fn guest_that_hangs_is_ended_by_a_signal() {
    let mut vm = TestVm::realm("hang").with("/cpus", json!({"boot_vcpus": 2})).start();
    vm.wait_for("done hang", 1);
    vm.signal(Signal::INT);
    let _ = vm.wait().expect_code(128 + 2);
}

#[test]
fn serial_port_can_be_on_standard_output_where_there_is_no_terminal() {
    let vm = TestVm::plain("poweroff").with("/serial", json!({"mode": "Tty"})).run().expect_code(0);
    let said = String::from_utf8_lossy(&vm.output.stdout);
    assert!(said.contains("done poweroff"), "{said}\n{}", vm.errors());
}

#[test]
fn vmm_lives_on_when_nobody_reads_its_log_any_more() {
    let mut vm = TestVm::plain("reboot").flag("-v").start();
    vm.wait_for_log("the guest runs");
    vm.wait_for("done reboot", 3);
    vm.signal(Signal::TERM);
    let _ = vm.wait().expect_code(128 + 15);
}

#[test]
fn a_realm_without_a_platform_is_refused_with_the_flag_to_give() {
    let vm = TestVm::realm("poweroff").with("/realm/platform", json!(null)).run().expect_code(1);
    assert!(vm.errors().contains("--realm soft,key=FILE"), "{}", vm.errors());
}

/// What a Realm cannot have is refused by name and reason, before anybody looks for a host that could run it.
#[test]
fn what_a_realm_cannot_have_is_refused_before_its_launch() {
    let soft = |pointer: &str, value| TestVm::realm("poweroff").with(pointer, value);
    let other = |realm: Value| TestVm::plain("poweroff").with("/realm", realm);
    for (vm, field, reason) in [
        (soft("/balloon", json!({"size": 0})), "balloon", "cannot take pages from a Realm"),
        (soft("/pmem", json!([{"file": "/dev/null"}])), "pmem", "a disk"),
        (soft("/cpus", json!({"boot_vcpus": 1, "max_vcpus": 2})), "cpus.max_vcpus", "1"),
        (soft("/realm/ipa_bits", json!(40)), "realm.ipa_bits", "the back-end cca"),
        (soft("/realm/guest_memfd", json!("separate")), "realm.guest_memfd", "the back-end cca"),
        (soft("/realm/virtcca", json!({})), "realm.virtcca", "the back-end virtcca"),
        (soft("/payload/firmware", json!("/dev/null")), "payload.firmware", "only virtcca"),
        (
            other(json!({"backend": "cca", "rmm": "2.0", "measurement_algorithm": "sha512"})),
            "realm.measurement_algorithm",
            "sha256",
        ),
        (
            other(json!({"backend": "cca", "rmm": "2.0", "personalization_value": "YQ=="})),
            "realm.personalization_value",
            "no call that sets it",
        ),
        (
            other(json!({"backend": "cca"})).with("/memory/hugepages", json!(true)),
            "memory.hugepages",
            "page by page",
        ),
        (other(json!({"backend": "virtcca", "rmm": "1.0"})), "realm.rmm", "a TMM"),
        (other(json!({"backend": "virtcca", "virtcca": {"swiotlb": 0}})), "realm.virtcca.swiotlb", "65536"),
    ] {
        let vm = vm.run().expect_code(1);
        let said = vm.errors();
        assert!(said.contains(&format!("{field}: ")) && said.contains(reason), "{field}: {said}");
        assert!(vm.serial.is_empty(), "{field}: it was launched:\n{}", vm.serial);
    }
}

/// Loads and stores of pairs, of vectors and with writeback, at the registers of a device.
#[test]
fn accesses_that_cannot_be_decoded_are_aborts_of_the_guest() {
    for vm in [TestVm::plain("undecodable"), TestVm::realm("undecodable")] {
        let mut vm = vm.serve_with_vm();
        vm.wait_for("done undecodable", 1);
        assert_eq!(vm.api().counters().unwrap()["vcpu0"]["undecodable"], 4);
        vm.signal(Signal::TERM);
        let vm = vm.wait().expect_code(128 + 15).expect_passed("undecodable");
        assert!(vm.serial.contains("probes 4"), "{}", vm.serial);
    }
}

#[test]
fn launch_log_of_a_run_equals_the_offline_measurement() {
    let vm = TestVm::realm("poweroff");
    let log = vm.path("launch.json");
    let expected = vm.measure();
    let vm = vm.flag(&format!("--launch-log={}", log.display())).start();
    let text = {
        let mut vm = vm;
        vm.wait_for("done poweroff", 1);
        std::fs::read_to_string(&log).unwrap()
    };
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found, expected);
}
