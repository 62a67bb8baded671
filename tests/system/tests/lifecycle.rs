//! How VMs begin and end.

#![cfg(target_arch = "aarch64")]

use rustix::process::Signal;
use serde_json::json;
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
fn a_realm_without_a_platform_is_refused_with_the_flag_to_give() {
    let vm = TestVm::realm("poweroff").with("/realm/platform", json!(null)).run().expect_code(1);
    assert!(vm.errors().contains("--realm soft,key=FILE"), "{}", vm.errors());
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
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found, expected);
}
